"use strict";
// Everything works without this but the touch of a passkey, which browsers give to
// scripts alone.
(() => {
  const status = document.getElementById("status");
  const say = (text) => { if (status) status.textContent = text; };

  // The time that is left, counted down.
  const tick = () => {
    for (const el of document.querySelectorAll("time[data-until]")) {
      const s = Math.max(0, Math.round((Date.parse(el.getAttribute("datetime")) - Date.now()) / 1000));
      el.textContent = s === 0 ? "over" : Math.floor(s / 60) + ":" + String(s % 60).padStart(2, "0") + " left";
    }
  };
  tick();
  setInterval(tick, 1000);

  // The overview, kept fresh: the server says that something changed, the page is
  // fetched again. What the human is typing into is left alone.
  const live = document.getElementById("live");
  if (live) {
    let seen = null;
    const events = new EventSource("/console/events");
    events.addEventListener("state", async (e) => {
      if (seen === null) { seen = e.data; return; }
      if (seen === e.data) return;
      if (live.contains(document.activeElement)) { say("Something changed. Load the page again to see it."); return; }
      const answer = await fetch("/console?live", { credentials: "same-origin" });
      if (!answer.ok) { say("You are logged out. Load the page again."); events.close(); return; }
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live");
      if (!fresh) return;
      live.replaceChildren(...fresh.childNodes);
      seen = e.data;
      tick();
      say("The page was brought up to date.");
    });
  }

  const question = async (path, form) => {
    const answer = await fetch(path, { method: "POST", credentials: "same-origin", body: new URLSearchParams(new FormData(form)) });
    if (!answer.ok) throw new Error(new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main p")?.textContent || "The server said no.");
    return answer.json();
  };
  const fill = (form, name, value) => { form.querySelector("input[name=" + name + "]").value = value; };

  for (const form of document.querySelectorAll("form[data-passkey]")) {
    form.addEventListener("submit", async (e) => {
      const register = form.dataset.passkey === "register";
      if (!register && e.submitter?.value !== "approve") return; // a no needs no touch
      e.preventDefault();
      say("Touch your passkey.");
      try {
        const q = await question(register ? "/console/passkeys/begin" : "/console/touch", form);
        const pk = q.options.publicKey;
        const made = register
          ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(pk) })
          : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(pk) });
        fill(form, "handle", q.handle);
        fill(form, "passkey", JSON.stringify(made.toJSON()));
        if (!register) fill(form, "decision", "approve");
        form.submit();
      } catch (err) {
        say("Nothing was decided: " + err.message);
      }
    });
  }
})();
