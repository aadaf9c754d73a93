package cloudflare_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare"
	"github.com/hourglass-mcp/hourglass/internal/cloudflare/pow"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

func FuzzEnvelope(f *testing.F) {
	for _, s := range []string{
		"", "{}", "[]", "null", "<html>", `{"success":true,"errors":null,"result":{}}`, `{"success":"x"}`, `{"errors":{}}`,
		`{"success":false,"errors":[{"code":10021,"message":"x"},null,7,{"code":"1","message":"y"},{"code":1.5},{"message":3}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		codes, err := cloudflare.ParseEnvelope(body)
		if err == nil && !json.Valid(body) {
			t.Errorf("%q is taken for an envelope (%v)", body, codes)
		}
		if err != nil && (codes != nil || err.Error() == "" || len(err.Error()) > 100) {
			t.Errorf("%q: %v, %v", body, codes, err)
		}
	})
}

func FuzzChallenge(f *testing.F) {
	for _, s := range []string{`{}`, `{"challengeToken":"x","seed":"` + seed() + `","k":1000,"g":2000}`, `{"challengeToken":"x","seed":"` + seed() + `=","k":" 1","g":1e9}`, `{"k":-1,"g":0,"seed":null}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		k, g, err := cloudflare.ParseChallenge(body)
		if err == nil {
			if pow.Check(make([]byte, 32), k, g) != nil {
				t.Errorf("%q: k=%d g=%d is taken", body, k, g)
			}
			return
		}
		if !deploy.IsCode(err, deploy.CodeAPIBadResponse) && !deploy.IsCode(err, deploy.CodeChallengeHard) {
			t.Errorf("%q: %v", body, err)
		}
		if !utf8.ValidString(err.Error()) || len(err.Error()) > 400 {
			t.Errorf("%q: message %q", body, err)
		}
	})
}

func FuzzTraceEvent(f *testing.F) {
	for _, s := range []string{"", "{}", liveFrame, `{"event":null,"logs":[{}],"exceptions":[{}],"scriptVersion":7}`, `{"logs":[{"message":[[1],"\ud800"]}]}`, `{"event":{"request":{"headers":{"X-HOURGLASS-PROBE":["a"]}}}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		ev, ok := cloudflare.ParseTraceEvent(frame)
		if !ok {
			return
		}
		if !json.Valid(frame) {
			t.Errorf("%q is taken for an event", frame)
		}
		all := fmt.Sprint(ev)
		if !utf8.ValidString(all) || len(all) > 50*1100+8*11000+3000 || cloudflare.VersionID(ev.VersionID) != ev.VersionID {
			t.Errorf("%q gives %q", frame, all)
		}
	})
}

// FuzzCaretaker: what the API says of an account is read whole or not at all, and
// nothing of it could do harm in a path, a host or a terminal.
func FuzzCaretaker(f *testing.F) {
	for _, s := range []string{
		"", "null", "[]", "{}", `{"deployments":null}`, `{"deployments":[{"versions":[{"version_id":"770daf3aff8841609c05262a87a5a923","percentage":1e3},{"version_id":7}]}]}`,
		`{"annotations":{"workers/tag":"a\u001b[31m","workers/message":7}}`, `{"annotations":[]}`, `{"subdomain":{"enabled":true,"url":"https://a.b.workers.dev:1/x"}}`,
		`{"subdomain":{"enabled":true,"url":"javascript://a/%0a"}}`, `[{"id":"x","title":"y","uuid":"u","name":"n","queue_id":"q","queue_name":"m"}]`, `[{"id":"../x"}]`, `[null]`, `[[]]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		bad := func(err error) bool {
			if err != nil && !deploy.IsCode(err, deploy.CodeAPIBadResponse) {
				t.Errorf("%q: %v", body, err)
			}
			return err != nil
		}
		if id, err := cloudflare.ParseDeployments(body); !bad(err) && id != "" && cloudflare.VersionID(id) != id {
			t.Errorf("%q: version %q", body, id)
		}
		tag, message, err := cloudflare.ParseAnnotations(body)
		if !bad(err) && (len(tag) > 100 || len(message) > 100 || strings.ContainsRune(tag+message, 0x1b) || !utf8.ValidString(tag+message)) {
			t.Errorf("%q: %q %q", body, tag, message)
		}
		enabled, host, err := cloudflare.ParseWorkerHost(body)
		if !bad(err) && host != "" && (!enabled || strings.ContainsAny(host, ":/@ \x00") || !strings.Contains(host, ".")) {
			t.Errorf("%q: host %q", body, host)
		}
		for _, kind := range []string{deploy.ResourceKV, deploy.ResourceD1, deploy.ResourceQueue} {
			rows, err := cloudflare.ParseList(kind, body)
			if bad(err) {
				continue
			}
			for _, r := range rows {
				if r.Name == "" || r.Ref == "" || strings.ContainsAny(r.Ref, "/.?#% ") || !utf8.ValidString(r.Name) {
					t.Errorf("%q: %+v", body, r)
				}
			}
		}
	})
}
