package deploy

import (
	"context"
	"errors"
	"net/http"
	"testing"
)

type files map[string]string

func (f files) URL(context.Context, string) (string, error) { return "", errors.New("not asked for") }

func (f files) Fetch(_ context.Context, _, path string, _ http.Header) (*Response, error) {
	body, ok := f[path]
	if !ok {
		return &Response{Status: http.StatusNotFound}, nil
	}
	return &Response{Status: http.StatusOK, Body: []byte(body[:min(len(body), 8)])}, nil // an answer is read in part
}

func TestWitness(t *testing.T) {
	site := func(config map[string]any, pairs ...string) *Artifact {
		a := &Artifact{Assets: &Assets{Config: config}}
		for i := 0; i < len(pairs); i += 2 {
			a.Assets.Files = append(a.Assets.Files, Asset{Path: pairs[i], Content: []byte(pairs[i+1])})
		}
		return a
	}
	for name, c := range map[string]struct {
		now, before *Artifact
		path        string // "" for none
		serves      files
		seen        bool
	}{
		"changed":      {site(nil, "/a.txt", "new", "/b.txt", "same"), site(nil, "/a.txt", "old", "/b.txt", "same"), "/a.txt", files{"/a.txt": "new"}, true},
		"not yet":      {site(nil, "/a.txt", "new"), site(nil, "/a.txt", "old"), "/a.txt", files{"/a.txt": "old"}, false},
		"a new file":   {site(nil, "/a.txt", "x", "/n.html", "y"), site(nil, "/a.txt", "x"), "/n", files{"/n": "y"}, true},
		"a page":       {site(nil, "/d/index.html", "new"), site(nil, "/d/index.html", "old"), "/d/", files{"/d/": "new"}, true},
		"its own name": {site(map[string]any{"html_handling": "none"}, "/i.html", "new"), site(nil), "/i.html", files{"/i.html": "new"}, true},
		"same so far":  {site(nil, "/a", "12345678 new"), site(nil, "/a", "12345678 old"), "/a", files{"/a": "12345678 new"}, false},
		"a prefix":     {site(nil, "/a", "abcdefgh new"), site(nil, "/a", "12345678 old"), "/a", files{"/a": "abcdefgh new"}, true},
		"nothing":      {site(nil, "/a", "x"), site(nil, "/a", "x", "/gone", "y"), "", nil, false},
		"with code":    {&Artifact{MainModule: "i.js", Assets: &Assets{Files: []Asset{{Path: "/a", Content: []byte("n")}}}}, site(nil), "", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWitness(c.now, c.before)
			if w == nil || c.path == "" {
				if (w == nil) != (c.path == "") {
					t.Fatalf("%+v", w)
				}
				return
			}
			if w.path != c.path || w.seen(t.Context(), c.serves, "h") != c.seen {
				t.Errorf("%+v", w)
			}
		})
	}
}
