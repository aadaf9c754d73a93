package workerd_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
)

// binary gives the real runtime, fetched once.
func binary(t testing.TB) string {
	t.Helper()
	cache := os.Getenv("HOURGLASS_CACHE_DIR")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(dir, "hourglass")
	}
	bin, err := workerd.Find(t.Context(), workerd.FindConfig{CacheDir: cache})
	if err != nil {
		if os.Getenv("HOURGLASS_REQUIRE_ALL") == "1" {
			t.Fatal(err)
		}
		t.Skip("the Workers runtime can't be had: ", err)
	}
	return bin.Path
}

func esm(name, code string) workerd.Module {
	return workerd.Module{Name: name, Type: "application/javascript+module", Content: []byte(code)}
}

func worker(name, code string) workerd.Worker {
	return workerd.Worker{Name: name, MainModule: "index.js", Modules: []workerd.Module{esm("index.js", code)}, CompatibilityDate: "2026-11-17", Version: name + "-v1"}
}

func start(t testing.TB, cfg workerd.Config) *workerd.Process {
	t.Helper()
	cfg.Binary = binary(t)
	p, err := workerd.Start(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), time.Second)
		defer stop()
		p.Stop(ctx)
	})
	return p
}

func get(t testing.TB, p *workerd.Process, name, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(workerd.ProtoHeader, "https")
	resp, err := p.Transport(name).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestAnswersWithBindingsAndSane(t *testing.T) {
	w := worker("one", `import txt from "./a.txt"; export default { async fetch(r, env) {
		return new Response([r.url, env.T, env.J.a, txt, await (await env.S.fetch("http://x/")).text()].join("|")); } };`)
	w.Modules = append(w.Modules, workerd.Module{Name: "./a.txt", Type: "text/plain", Content: []byte("tab\there \"q\" \\ ü")})
	w.Bindings = []workerd.Binding{
		{Name: "T", Kind: workerd.Text, Value: "line\n\"quoted\" \\ <ü> \x01"},
		{Name: "J", Kind: workerd.JSON, Value: `{"a":[1,2]}`},
		{Name: "S", Kind: workerd.Service, Worker: "two"},
	}
	p := start(t, workerd.Config{Workers: []workerd.Worker{w, worker("two", `export default { fetch: () => new Response("from two") };`)}})
	status, body := get(t, p, "one", "http://one.sub.workers.dev/p?q=1")
	want := "https://one.sub.workers.dev/p?q=1|line\n\"quoted\" \\ <ü> \x01|1,2|tab\there \"q\" \\ ü|from two"
	if status != 200 || body != want {
		t.Fatalf("got %d %q, want %q", status, body, want)
	}
}

func TestStartErrorsNameTheWorker(t *testing.T) {
	good := worker("good", `export default { fetch: () => new Response("ok") };`)
	for name, c := range map[string]struct{ code, text string }{
		"syntax":  {"export default { fetch( { };", "SyntaxError"},
		"throw":   {"throw new TypeError('boom at start'); export default {};", "boom at start"},
		"missing": {`import "./nope.js"; export default {};`, "nope.js"},
		"await":   {`await new Promise(() => {}); export default {};`, "await"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := workerd.Start(t.Context(), workerd.Config{Binary: binary(t), Workers: []workerd.Worker{good, worker("bad", c.code)}})
			e, ok := errors.AsType[*workerd.StartError](err)
			if !ok || e.Worker != "bad" || !strings.Contains(e.Text, c.text) {
				t.Fatalf("got %v", err)
			}
			if strings.Contains(e.Text, "hgw-") || strings.Contains(e.Text, "file://") {
				t.Errorf("our paths show: %q", e.Text)
			}
		})
	}
}

func TestLoopAtTheTopLevelIsEnded(t *testing.T) {
	_, err := workerd.Start(t.Context(), workerd.Config{
		Binary: binary(t), StartTimeout: 500 * time.Millisecond,
		Workers: []workerd.Worker{worker("loop", `while (true) {} export default {};`)},
	})
	e, ok := errors.AsType[*workerd.StartError](err)
	if !ok || !strings.Contains(e.Text, "loop at the top level") {
		t.Fatalf("got %v", err)
	}
}

func TestSpinningProcessIsEnded(t *testing.T) {
	p := start(t, workerd.Config{SpinLimit: 500 * time.Millisecond, Workers: []workerd.Worker{worker("spin", `export default { fetch() { while (true) {} } };`)}})
	req, _ := http.NewRequest(http.MethodGet, "http://x/", nil)
	_, err := p.Transport("spin").RoundTrip(req) //nolint:bodyclose // there is none
	if !errors.Is(err, workerd.ErrSpun) || !errors.Is(p.Err(), workerd.ErrSpun) {
		t.Fatalf("got %v, %v", err, p.Err())
	}
}

func TestMemoryIsBounded(t *testing.T) {
	p := start(t, workerd.Config{HeapMiB: 64, SpinLimit: time.Minute, Workers: []workerd.Worker{worker("heap", `export default { fetch() { const a = []; for (;;) a.push({ x: "y".repeat(100) + a.length }); } };`)}})
	req, _ := http.NewRequest(http.MethodGet, "http://x/", nil)
	if _, err := p.Transport("heap").RoundTrip(req); !errors.Is(err, workerd.ErrMemory) { //nolint:bodyclose // there is none
		t.Fatalf("got %v", err)
	}
	big := start(t, workerd.Config{DataMiB: 300, Workers: []workerd.Worker{worker("buf", `export default { fetch() { try { const a = []; for (let i = 0; i < 40; i++) a.push(new Uint8Array(64 << 20).fill(1)); return new Response("had it all"); } catch (e) { return new Response(e.name); } } };`)}})
	if _, body := get(t, big, "buf", "http://x/"); body != "RangeError" {
		t.Fatalf("got %q", body)
	}
}

func TestTailTellsConsoleAndExceptions(t *testing.T) {
	events := make(chan workerd.TailEvent, 8)
	p := start(t, workerd.Config{
		OnTail:  func(e workerd.TailEvent) { events <- e },
		Workers: []workerd.Worker{worker("t", "export default { async fetch(r, env, ctx) {\n console.log('hi', {a: 1});\n if (new URL(r.url).pathname === '/late') { ctx.waitUntil((async () => { throw new Error('late'); })()); return new Response('ok'); }\n throw new TypeError('boom');\n} };")},
	})
	if status, _ := get(t, p, "t", "http://h.sub.workers.dev/"); status != 500 {
		t.Errorf("status %d", status)
	}
	type trace struct {
		Outcome, ScriptName string
		ScriptVersion       struct{ ID string }
		Exceptions          []struct{ Name, Message, Stack string }
		Logs                []struct{ Message []any }
		Event               struct{ Request struct{ URL string } }
	}
	next := func() (tr trace) {
		t.Helper()
		select {
		case e := <-events:
			if err := json.Unmarshal(e.Trace, &tr); err != nil {
				t.Fatal(err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("no event")
		}
		return tr
	}
	tr := next()
	if tr.ScriptName != "t" || tr.ScriptVersion.ID != "t-v1" || tr.Outcome != "exception" || len(tr.Exceptions) != 1 ||
		tr.Exceptions[0].Message != "boom" || !strings.Contains(tr.Exceptions[0].Stack, "index.js:4:") ||
		len(tr.Logs) != 1 || tr.Logs[0].Message[0] != "hi" || tr.Event.Request.URL != "https://h.sub.workers.dev/" {
		t.Errorf("got %+v", tr)
	}
	get(t, p, "t", "http://h/late")
	if tr := next(); len(tr.Exceptions) != 1 || tr.Exceptions[0].Message != "late" {
		t.Errorf("waitUntil: got %+v", tr)
	}
}

func TestNoNetworkToLoopback(t *testing.T) {
	p := start(t, workerd.Config{Workers: []workerd.Worker{worker("net", `export default { async fetch(r) { try { await fetch("http://127.0.0.1:1/"); return new Response("reached"); } catch (e) { return new Response("refused"); } } };`)}})
	if _, body := get(t, p, "net", "http://x/"); body != "refused" {
		t.Errorf("got %q", body)
	}
}

func TestCheck(t *testing.T) {
	bin := binary(t)
	if err := workerd.Check(t.Context(), workerd.Config{Binary: bin, Workers: []workerd.Worker{worker("ok", `export default {};`)}}); err != nil {
		t.Error(err)
	}
	err := workerd.Check(t.Context(), workerd.Config{Binary: bin, Workers: []workerd.Worker{worker("bad", `throw 1`)}})
	if _, ok := errors.AsType[*workerd.StartError](err); !ok {
		t.Errorf("got %v", err)
	}
}

func BenchmarkStartToFirstAnswer(b *testing.B) {
	bin := binary(b)
	for b.Loop() {
		p, err := workerd.Start(b.Context(), workerd.Config{Binary: bin, Workers: []workerd.Worker{worker("w", `export default { fetch: () => new Response("ok") };`)}})
		if err != nil {
			b.Fatal(err)
		}
		get(b, p, "w", "http://x/")
		b.StopTimer()
		p.Stop(b.Context())
		b.StartTimer()
	}
}
