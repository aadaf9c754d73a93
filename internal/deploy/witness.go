package deploy

import (
	"bytes"
	"context"
	"net/http"
	"strings"
)

// witness is a static file by which a version can be told from the one before: static
// files alone are served without an invocation, so no tail tells of them.
type witness struct {
	path        string // as it is asked for
	now, before []byte // nil before: the file is new
}

// newWitness finds the smallest file whose content a deployment changed; nil when it
// changed none that would answer under its own address.
func newWitness(art, before *Artifact) *witness {
	if art.Assets == nil || art.MainModule != "" {
		return nil
	}
	old := map[string][]byte{}
	if before != nil && before.Assets != nil {
		for _, f := range before.Assets.Files {
			old[f.Path] = f.Content
		}
	}
	var best *witness
	for _, f := range art.Assets.Files {
		was, had := old[f.Path]
		if len(f.Content) == 0 || had && bytes.Equal(was, f.Content) || best != nil && len(best.now) <= len(f.Content) {
			continue
		}
		best = &witness{path: addressOf(f.Path, art.Assets.Config), now: f.Content, before: was}
	}
	return best
}

// addressOf is where a static file answers: pages without their .html, unless
// html_handling says otherwise (wrangler-wire fact sheet, section 9).
func addressOf(path string, config map[string]any) string {
	switch config["html_handling"] {
	case nil, "auto-trailing-slash":
		if folder, ok := strings.CutSuffix(path, "/index.html"); ok {
			return folder + "/"
		}
		return strings.TrimSuffix(path, ".html")
	}
	return path
}

// seen tells whether the witness speaks for the new version: what it answers is the new
// content and not the old, as far as an answer is read.
func (w *witness) seen(ctx context.Context, edge Edge, host string) bool {
	resp, err := edge.Fetch(ctx, host, w.path, http.Header{"Cache-Control": {"no-cache"}, "User-Agent": {"hourglass-probe"}})
	if err != nil || resp.Status != http.StatusOK || len(resp.Body) == 0 {
		return false
	}
	return bytes.HasPrefix(w.now, resp.Body) && (w.before == nil || !bytes.HasPrefix(w.before, resp.Body))
}
