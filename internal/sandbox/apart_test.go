package sandbox_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/sandbox"
)

// TestStoresApart: what is on one account is nothing to another, whatever it knows.
func TestStoresApart(t *testing.T) {
	mine := newOn(t)
	kv := mine.made("/storage/kv/namespaces", `{"title":"mine"}`, "id")
	db := mine.made("/d1/database", `{"name":"mine"}`, "uuid")
	q := mine.made("/queues", `{"queue_name":"mine"}`, "queue_id")
	mine.call(http.MethodPut, "/storage/kv/namespaces/"+kv+"/values/k", "secret")
	mine.call(http.MethodPost, "/d1/database/"+db+"/query", `{"sql":"CREATE TABLE secret (v)"}`)

	theirs := on{t, mine.s, grant(t, mine.s)}
	for _, c := range [][3]string{
		{http.MethodGet, "/storage/kv/namespaces/" + kv + "/values/k", ""},
		{http.MethodGet, "/storage/kv/namespaces/" + kv + "/keys", ""},
		{http.MethodDelete, "/storage/kv/namespaces/" + kv, ""},
		{http.MethodPost, "/d1/database/" + db + "/query", `{"sql":"SELECT * FROM secret"}`},
		{http.MethodPost, "/d1/database/mine/query", `{"sql":"SELECT * FROM secret"}`},
		{http.MethodDelete, "/d1/database/" + db, ""},
		{http.MethodGet, "/queues/" + q, ""},
		{http.MethodPost, "/queues/" + q + "/messages", `{"body":1}`},
	} {
		if a := theirs.call(c[0], c[1], c[2]); a.status != http.StatusNotFound {
			t.Errorf("%s %s: %d %v %s", c[0], c[1], a.status, a.Errors, a.Result)
		}
	}
	for path, field := range map[string]string{"/storage/kv/namespaces": "mine", "/d1/database": "mine", "/queues": "mine"} {
		if a := theirs.call(http.MethodGet, path, ""); !a.Success || strings.Contains(string(a.Result), field) {
			t.Errorf("%s: %+v", path, a)
		}
	}
	for _, b := range []map[string]any{
		{"name": "X", "type": "kv_namespace", "namespace_id": kv}, {"name": "X", "type": "d1", "id": db}, {"name": "X", "type": "queue", "queue_name": "mine"},
	} {
		if a := upload(t, theirs.s, theirs.g, "thief", says("x"), bindings(b)); a.Success {
			t.Errorf("%v was bound", b)
		}
	}
	// A namespace of the same name and a forged header are their own account's.
	own := theirs.made("/storage/kv/namespaces", `{"title":"mine"}`, "id")
	host := theirs.deploy("w", `export default { async fetch(r, env) { return new Response(String(await env.KV.get("k"))); } };`, bindings(map[string]any{"name": "KV", "type": "kv_namespace", "namespace_id": own}))
	theirs.want(host, "/", "null")
}

// TestD1Limit: a database does not grow beyond what a temporary account has, and what
// makes room goes on.
func TestD1Limit(t *testing.T) {
	o := newOn(t)
	db := o.made("/d1/database", `{"name":"big"}`, "uuid")
	o.call(http.MethodPost, "/d1/database/"+db+"/query", `{"sql":"CREATE TABLE t (v BLOB)"}`)
	full := answer{}
	for range 120 {
		if full = o.call(http.MethodPost, "/d1/database/"+db+"/query", `{"sql":"INSERT INTO t VALUES (randomblob(1000000))"}`); !full.Success {
			break
		}
	}
	if full.Success || full.code() != 7500 || !strings.Contains(full.Errors[0].Message, "maximum DB size") {
		t.Errorf("%+v", full)
	}
	for _, sql := range []string{"SELECT count(*) FROM t", "DELETE FROM t"} {
		if a := o.call(http.MethodPost, "/d1/database/"+db+"/query", `{"sql":"`+sql+`"}`); !a.Success {
			t.Errorf("%s: %+v", sql, a)
		}
	}
}

// TestSpinLeavesStores: a Worker that loops takes neither its own data with it nor
// another account's Worker.
func TestSpinLeavesStores(t *testing.T) {
	mine := newOn(t)
	kv := mine.made("/storage/kv/namespaces", `{"title":"kv"}`, "id")
	b := bindings(map[string]any{"name": "KV", "type": "kv_namespace", "namespace_id": kv})
	code := `export default { async fetch(r, env) { const p = new URL(r.url).pathname; if (p === "/spin") { await env.KV.put("spins", "yes"); for (;;); } if (p === "/put") await env.KV.put("k", "kept"); return new Response(await env.KV.get("k")); } };`
	host := mine.deploy("w", code, b)
	mine.want(host, "/put", "kept")
	theirs := on{t, mine.s, grant(t, mine.s)}
	other := theirs.deploy("calm", says("calm"), nil)
	done := make(chan int)
	go func() {
		status, _, _ := edge(t, mine.s, host, "/spin")
		done <- status
	}()
	for range 200 {
		if mine.raw(http.MethodGet, "/storage/kv/namespaces/"+kv+"/values/spins", "") == "yes" {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	theirs.want(other, "/", "calm")
	select {
	case status := <-done:
		t.Fatalf("the other account's Worker answered only after the loop's end, with %d", status)
	default:
	}
	if got := mine.raw(http.MethodGet, "/storage/kv/namespaces/"+kv+"/values/k", ""); got != "kept" {
		t.Errorf("while it loops: %q", got)
	}
	if status := <-done; status != 503 {
		t.Errorf("the loop: %d", status)
	}
	mine.want(host, "/", "kept")
}

// TestStoresComeBack: the data outlasts every process that keeps it, and an alarm
// fires although the process with the object was killed.
func TestStoresComeBack(t *testing.T) {
	o := newOn(t)
	kv := o.made("/storage/kv/namespaces", `{"title":"kv"}`, "id")
	m := bindings(map[string]any{"name": "KV", "type": "kv_namespace", "namespace_id": kv}, map[string]any{"name": "A", "type": "durable_object_namespace", "class_name": "Alarm"})
	m["migrations"] = map[string]any{"new_tag": "v1", "steps": []any{map[string]any{"new_sqlite_classes": []string{"Alarm"}}}}
	host := o.deploy("w", `import { DurableObject } from "cloudflare:workers";
export class Alarm extends DurableObject {
  async set() { await this.ctx.storage.setAlarm(Date.now() + 1500); }
  async alarm() { await this.env.KV.put("alarm", "fired"); }
}
export default { async fetch(r, env) { const p = new URL(r.url).pathname;
  if (p === "/put") await env.KV.put("k", "kept");
  if (p === "/set") await env.A.getByName("x").set();
  return new Response(await env.KV.get("k")); } };`, m)
	o.want(host, "/put", "kept")
	o.want(host, "/set", "kept")
	pids := runtimes(os.Getpid())
	if len(pids) < 2 {
		t.Fatalf("%d runtimes", len(pids))
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	for range 200 {
		if got := o.raw(http.MethodGet, "/storage/kv/namespaces/"+kv+"/values/alarm", ""); got == "fired" {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	o.want(host, "/", "kept")
	if got := o.raw(http.MethodGet, "/storage/kv/namespaces/"+kv+"/values/alarm", ""); got != "fired" {
		t.Errorf("the alarm: %q", got)
	}
}

// TestNothingLeft: the data of an account is gone with its hour, and with the sandbox.
func TestNothingLeft(t *testing.T) {
	s := box(t, sandbox.Config{ChallengeK: 1, ChallengeG: 1})
	folders := func() int {
		found, err := filepath.Glob(filepath.Join(os.TempDir(), "hgw-*", "hgw-*", "stores"))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, f := range found {
			if fd, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", lockOf(filepath.Dir(f)))); err == nil && strings.HasPrefix(fd, filepath.Dir(f)) {
				n++
			}
		}
		return n
	}
	before := folders()
	o := on{t, s, grant(t, s)}
	kv := o.made("/storage/kv/namespaces", `{"title":"kv"}`, "id")
	o.call(http.MethodPut, "/storage/kv/namespaces/"+kv+"/values/k", "v")
	if folders() != before+1 {
		t.Errorf("%d folders, before %d", folders(), before)
	}
	manage(t, s, http.MethodPost, "/clock", `{"advance_seconds":3601}`, nil)
	if folders() != before {
		t.Errorf("after the hour: %d folders, before %d", folders(), before)
	}
}

// lockOf finds our file descriptor of a folder's lock, or -1.
func lockOf(dir string) int {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	for _, fd := range fds {
		var n int
		if _, err := fmt.Sscan(fd.Name(), &n); err != nil {
			continue
		}
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && to == filepath.Join(dir, "lock") {
			return n
		}
	}
	return -1
}

// ownAddresses are this machine's addresses in its networks, private or not.
func ownAddresses(t *testing.T) (out []string) {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			out = append(out, n.IP.String())
		}
	}
	return out
}

// TestOutbound: a Worker reaches neither this machine nor its network, unless the
// operator allows it.
func TestOutbound(t *testing.T) {
	secret := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("metadata")) }))
	defer secret.Close()
	port := secret.URL[strings.LastIndex(secret.URL, ":"):]
	code := `import { connect } from "cloudflare:sockets";
export default { async fetch(r, env) {
  const reached = [];
  for (const host of ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "169.254.169.254", "10.0.0.1", "192.168.0.1", "2130706433", "[::ffff:127.0.0.1]"]) {
    try { reached.push(host + " " + (await (await fetch("http://" + host + "` + port + `/", { signal: AbortSignal.timeout(1500) })).text())); } catch {}
  }
  try { const s = connect("127.0.0.1` + port + `"); await s.opened; reached.push("socket"); } catch {}
  return new Response(reached.join());
} };`
	for _, address := range ownAddresses(t) {
		l, err := net.Listen("tcp", net.JoinHostPort(address, port[1:]))
		if err != nil {
			continue // another program has the port there
		}
		defer l.Close()
		go func() { _ = http.Serve(l, secret.Config.Handler) }() //nolint:gosec // of a test
		code = strings.Replace(code, `"localhost"`, `"`+strings.TrimSuffix(net.JoinHostPort(address, ""), ":")+`", "localhost"`, 1)
	}
	for allowed, want := range map[bool]string{false: "", true: "127.0.0.1 metadata"} {
		s := box(t, sandbox.Config{ChallengeK: 1, ChallengeG: 1, AllowPrivateNetwork: allowed})
		o := on{t, s, grant(t, s)}
		host := o.deploy("w", code, nil)
		status, body, _ := edge(t, s, host, "/")
		if status != 200 || allowed != strings.Contains(body, "metadata") || !strings.HasPrefix(body, want) || !allowed && body != "" {
			t.Errorf("allowed %v: %d %q", allowed, status, body)
		}
	}
}
