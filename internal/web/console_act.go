package web

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// decideClaim takes a human's decision about a claim.
func (c *Console) decideClaim(w http.ResponseWriter, r *http.Request) {
	approve, ok := c.choice(w, r)
	if !ok {
		return
	}
	id := r.PathValue("id")
	view, err := c.service.ClaimViewByID(r.Context(), id)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	if r.PostForm.Get("digest") != view.Claim.Digest {
		c.problem(w, r, http.StatusConflict, "Not decided", "What would be kept has changed since the page was shown. Open the page again and decide.")
		return
	}
	who := loginOf(r).human("")
	if approve {
		if who.Channel, ok = c.touched(w, r, "claim/"+id, view.Claim.Digest); !ok {
			return
		}
		who.Browser = c.browser(w, r)
	}
	_, err = c.service.DecideClaimBy(r.Context(), id, approve, who)
	switch {
	case deploy.IsCode(err, deploy.CodeSessionClosed): // somebody was faster, or the account changed
		if _, e := c.service.ClaimLinkByID(r.Context(), id, who.Browser); approve && e == nil {
			c.decided(w, r, view.Claim.ID) // by this browser: the button was pressed twice
			return
		}
		after, e := c.service.ClaimViewByID(r.Context(), id)
		if e == nil && after.State != deploy.ClaimAwaiting {
			c.showClaim(w, r, http.StatusConflict, true)
			return
		}
		c.fail(w, r, err)
	case err != nil:
		c.fail(w, r, err)
	default:
		c.decided(w, r, view.Claim.ID)
	}
}

// decided leads to the claim's page, and on from there.
func (c *Console) decided(w http.ResponseWriter, r *http.Request, id string) {
	http.Redirect(w, r, PathConsole+"/claims/"+id+"?decided", http.StatusSeeOther)
}

// choice is which of the two buttons was pressed.
func (c *Console) choice(w http.ResponseWriter, r *http.Request) (approve, ok bool) {
	switch r.PostForm.Get("decision") {
	case "approve":
		return true, true
	case "refuse":
		return false, true
	}
	c.problem(w, r, http.StatusBadRequest, "Not decided", "Go back to the page and press one of its two buttons.")
	return false, false
}

// goOn leads the browser that said yes to Cloudflare's claim page, as often as it wants
// until the link is over.
func (c *Console) goOn(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	link, err := c.service.ClaimLinkByID(r.Context(), id, c.browserOf(r))
	if err != nil {
		c.fail(w, r, err)
		return
	}
	if !goodLink(link.Reveal()) {
		c.problem(w, r, http.StatusBadGateway, "No way on", "The claim link is not one that a browser should open.")
		return
	}
	if err := c.service.Opened(r.Context(), id, loginOf(r).session.User.Name); err != nil {
		c.fail(w, r, err) // what can't be recorded is not done
		return
	}
	// Not http.Redirect, which would write the link into a page too.
	w.Header().Set("Location", link.Reveal())
	w.WriteHeader(http.StatusSeeOther)
}

// claimFile gives what the holder of a key opens with the claim command on their own
// machine. Nothing in it is secret.
func (c *Console) claimFile(w http.ResponseWriter, r *http.Request) {
	f, err := c.service.ClaimFileByID(r.Context(), r.PathValue("id"))
	var body []byte
	if err == nil {
		body, err = f.Encode()
	}
	if err != nil {
		c.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Disposition", `attachment; filename="claim.json"`)
	_, _ = w.Write(body) // a browser that is gone needs no file
}

// outcome takes a human's word about how it ended at Cloudflare.
func (c *Console) outcome(w http.ResponseWriter, r *http.Request) {
	did := r.PostForm.Get("outcome")
	if did != "finished" && did != "not" {
		c.problem(w, r, http.StatusBadRequest, "Not noted", "Go back to the page and press one of its two buttons.")
		return
	}
	id := r.PathValue("id")
	if err := c.service.Adopted(r.Context(), id, did == "finished", loginOf(r).human("")); err != nil {
		c.fail(w, r, err)
		return
	}
	http.Redirect(w, r, goodNext(PathConsole+"/claims/"+id), http.StatusSeeOther)
}

// decideApproval takes a human's decision about an act.
func (c *Console) decideApproval(w http.ResponseWriter, r *http.Request) {
	approve, ok := c.choice(w, r)
	if !ok {
		return
	}
	a, err := c.waiting(r)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	if a == nil {
		c.problem(w, r, http.StatusConflict, "Not decided", "It was decided before, or is over; your decision did not count.")
		return
	}
	who := loginOf(r).human("")
	if approve {
		if who.Channel, ok = c.touched(w, r, "approval/"+a.ID, a.Digest); !ok {
			return
		}
	}
	if _, err := c.service.DecideApprovalBy(r.Context(), a.ID, approve, r.PostForm.Get("digest"), who); err != nil {
		c.fail(w, r, err)
		return
	}
	http.Redirect(w, r, PathConsole, http.StatusSeeOther)
}

// caller is who operates, for the record.
func (c *Console) caller(r *http.Request) deploy.Caller {
	u := loginOf(r).session.User
	return deploy.Caller{Principal: "console:" + u.Name, Door: deploy.DoorConsole, Client: "console", Scopes: slices.Clone(u.Scopes)}
}

// teardown takes down one session, all of one caller, or everything that is live.
func (c *Console) teardown(w http.ResponseWriter, r *http.Request) {
	f := deploy.SessionFilter{ID: r.PostForm.Get("session"), Principal: r.PostForm.Get("principal")}
	all := r.PostForm.Get("all") == "everything"
	if named := f != (deploy.SessionFilter{}); named == all || f.ID != "" && f.Principal != "" {
		c.problem(w, r, http.StatusBadRequest, "Nothing was taken down", "Say what goes: one session, one caller, or everything.")
		return
	}
	if (all || f.Principal != "") && r.PostForm.Get("sure") != "yes" {
		c.problem(w, r, http.StatusBadRequest, "Nothing was taken down", "This takes down more than one session: go back and tick the box beside the button.")
		return
	}
	// The human may close the page; what was begun is finished, or says why not.
	if f.ID == "" {
		f.Live = true
	}
	results, err := c.service.Revoke(r.Context(), c.caller(r), f, stringOr(strings.TrimSpace(r.PostForm.Get("reason")), "taken down in the console"))
	if err != nil {
		c.fail(w, r, err)
		return
	}
	var lines []string
	for _, one := range results {
		what := one.Error
		if one.Result != nil {
			what = "deleted " + stringOr(strings.Join(one.Result.Deleted, ", "), "nothing")
			if len(one.Result.NotUndone) > 0 {
				what += "; stays: " + strings.Join(one.Result.NotUndone, " ")
			}
		}
		lines = append(lines, label(fmt.Sprintf("%s of %s: %s", one.SessionID, one.Principal, c.cfg.Redactor.Redact(what))))
	}
	c.show(w, r, http.StatusOK, "done", layout{Title: "Taken down", Body: lines})
}

// freeze stops all deployments, or allows them again.
func (c *Console) freeze(w http.ResponseWriter, r *http.Request) {
	to := r.PostForm.Get("to")
	if to != "frozen" && to != "thawed" {
		c.problem(w, r, http.StatusBadRequest, "Nothing was changed", "Go back to the page and press its button.")
		return
	}
	if err := c.service.SetFreeze(r.Context(), to == "frozen", c.caller(r).Principal, strings.TrimSpace(r.PostForm.Get("reason"))); err != nil {
		c.fail(w, r, err)
		return
	}
	http.Redirect(w, r, PathConsole, http.StatusSeeOther)
}

// events tells an open page when it is out of date. It says nothing of what changed: the
// page is loaded again, with all that goes with that.
func (c *Console) events(w http.ResponseWriter, r *http.Request) {
	select {
	case c.streams <- struct{}{}:
		defer func() { <-c.streams }()
	default:
		c.problem(w, r, http.StatusServiceUnavailable, "Too many pages", "Load the page again to see what is new.")
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no")
	flush := http.NewResponseController(w)
	tick := time.NewTicker(c.cfg.LookEvery)
	defer tick.Stop()
	last := ""
	for {
		in, err := c.find(r)
		if err != nil || in == nil {
			return // logged out, or over
		}
		b, err := c.look(r)
		if err != nil {
			return
		}
		line := ": still here\n\n"
		if now := b.fingerprint(); now != last {
			line, last = "event: state\ndata: "+now+"\n\n", now
		}
		if _, err := fmt.Fprint(w, line); err != nil {
			return
		}
		if flush.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}
