package sandbox_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"
)

// TestTags are the Worker's: they come with an upload that is deployed, stay where one says
// nothing of them, and are held to what the documentation says.
func TestTags(t *testing.T) {
	o := newOn(t)
	tags := func() (out []string) {
		t.Helper()
		var in struct{ Tags []string }
		if err := json.Unmarshal(o.call(http.MethodGet, "/workers/scripts/w/script-settings", "").Result, &in); err != nil {
			t.Fatal(err)
		}
		return in.Tags
	}
	o.deploy("w", says("1"), map[string]any{"tags": []string{"session=s_1", "team=web"}})
	o.deploy("w", says("2"), nil)
	if got := tags(); !slices.Equal(got, []string{"session=s_1", "team=web"}) {
		t.Errorf("%q", got)
	}
	if a := o.call(http.MethodPatch, "/workers/scripts/w/script-settings", `{"tags":["other"]}`); !a.Success || !slices.Equal(tags(), []string{"other"}) {
		t.Errorf("%+v, %q", a, tags())
	}
	for _, bad := range []string{`["1","2","3","4","5","6","7","8","9"]`, `["a,b"]`, `["a&b"]`, `[""]`, `[1]`} {
		if a := o.call(http.MethodPatch, "/workers/scripts/w/script-settings", `{"tags":`+bad+`}`); a.status != 400 {
			t.Errorf("%s: %+v", bad, a)
		}
	}
	if !slices.Equal(tags(), []string{"other"}) {
		t.Errorf("a refused change changed %q", tags())
	}
}
