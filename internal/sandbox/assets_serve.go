package sandbox

import (
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
)

// assetHeader tells the assets service whose files a binding is for. The runtime sets
// it on every request of the binding and overrides what the Worker sends.
const assetHeader = "X-Hourglass-Assets"

// found is what a path leads to: a file, a redirect, or nothing.
type found struct {
	path     string // of the file
	hash     string
	redirect string
	status   int
}

// look finds what is served for a path, by html_handling.
func (as *assetSet) look(path string) found {
	handling, _ := as.config["html_handling"].(string)
	file := func(p string) (found, bool) {
		h, ok := as.files[p]
		return found{path: p, hash: h, status: http.StatusOK}, ok
	}
	to := func(p string) found { return found{redirect: p, status: http.StatusTemporaryRedirect} }
	if handling == "none" {
		f, _ := file(path)
		return f
	}
	if f, ok := as.exact(path, handling, file, to); ok {
		return f
	}
	base := strings.TrimSuffix(path, "/")
	_, page := as.files[base+".html"]
	_, index := as.files[base+"/index.html"]
	slash := strings.HasSuffix(path, "/")
	pageFile, indexFile := base+".html", base+"/index.html"
	switch handling {
	case "force-trailing-slash":
		switch {
		case !page && !index:
			return found{}
		case !slash:
			return to(base + "/")
		case index:
			f, _ := file(indexFile)
			return f
		}
		f, _ := file(pageFile)
		return f
	case "drop-trailing-slash":
		switch {
		case !page && !index:
			return found{}
		case slash && base != "":
			return to(base)
		case page && base != "":
			f, _ := file(pageFile)
			return f
		}
		f, _ := file(indexFile)
		return f
	}
	switch { // auto-trailing-slash
	case slash && index:
		f, _ := file(indexFile)
		return f
	case !slash && page:
		f, _ := file(pageFile)
		return f
	case slash && page:
		return to(base)
	case !slash && index:
		return to(base + "/")
	}
	return found{}
}

// exact serves a file by its own name, but leads from /x.html and /x/index.html to
// the address that html_handling gives them.
func (as *assetSet) exact(path, handling string, file func(string) (found, bool), to func(string) found) (found, bool) {
	f, ok := file(path)
	if !ok {
		return found{}, false
	}
	if base, is := strings.CutSuffix(path, "/index.html"); is {
		if handling == "drop-trailing-slash" && base != "" {
			return to(base), true
		}
		return to(base + "/"), true
	}
	if base, is := strings.CutSuffix(path, ".html"); is {
		if handling == "force-trailing-slash" {
			return to(base + "/"), true
		}
		return to(base), true
	}
	return f, true
}

// miss finds what is served when nothing matches, by not_found_handling.
func (as *assetSet) miss(path string) found {
	handling, _ := as.config["not_found_handling"].(string)
	switch handling {
	case "single-page-application":
		if h, ok := as.files["/index.html"]; ok {
			return found{path: "/index.html", hash: h, status: http.StatusOK}
		}
	case "404-page":
		for dir := path; ; {
			dir = dir[:max(0, strings.LastIndexByte(dir, '/'))]
			if h, ok := as.files[dir+"/404.html"]; ok {
				return found{path: dir + "/404.html", hash: h, status: http.StatusNotFound}
			}
			if dir == "" {
				break
			}
		}
	}
	return found{}
}

// serveAssetFirst serves a static file if one answers the request before the Worker
// does; it tells whether it did.
func (s *Sandbox) serveAssetFirst(w http.ResponseWriter, r *http.Request, v *version) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	if v.main != "" && v.assets.runsFirst(r.URL.Path) {
		return false
	}
	if to, status := v.assets.redirect(r.URL); status != 0 {
		if status != http.StatusOK {
			redirectTo(w, r, to, status)
			return true
		}
		if u, err := url.Parse(to); err == nil {
			r = r.Clone(r.Context())
			r.URL.Path = u.Path
		}
	}
	f := v.assets.look(r.URL.Path)
	if f.status == 0 && v.main != "" && r.Header.Get("Sec-Fetch-Mode") == "navigate" {
		f = v.assets.miss(r.URL.Path) // a browser's navigation prefers the files
	}
	if f.status == 0 {
		return false
	}
	s.send(w, r, v, f)
	return true
}

// assetMiss answers for static files alone when none matches.
func (s *Sandbox) assetMiss(w http.ResponseWriter, r *http.Request, v *version) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		edgeError(w, s, http.StatusMethodNotAllowed, "Method Not Allowed")
		return
	}
	if v.assets != nil {
		if f := v.assets.miss(r.URL.Path); f.status != 0 {
			s.send(w, r, v, f)
			return
		}
	}
	w.Header().Set("Date", s.clock.Now().UTC().Format(http.TimeFormat))
	w.WriteHeader(http.StatusNotFound)
}

func redirectTo(w http.ResponseWriter, r *http.Request, to string, status int) {
	if r.URL.RawQuery != "" && !strings.Contains(to, "?") {
		to += "?" + r.URL.RawQuery
	}
	w.Header().Set("Location", to)
	w.WriteHeader(status)
}

// send sends a file, or the redirect that was found for it.
func (s *Sandbox) send(w http.ResponseWriter, r *http.Request, v *version, f found) {
	h := w.Header()
	h.Set("Date", s.clock.Now().UTC().Format(http.TimeFormat))
	if f.redirect != "" {
		redirectTo(w, r, (&url.URL{Path: f.redirect}).EscapedPath(), f.status)
		return
	}
	b, ok := s.blobOf(v, f.hash)
	if !ok {
		edgeError(w, s, http.StatusInternalServerError, "the asset's content is gone")
		return
	}
	if b.mime != "" {
		h.Set("Content-Type", b.mime)
	} else {
		h["Content-Type"] = nil // no sniffing
	}
	h.Set("Etag", `"`+f.hash+`"`)
	h.Set("Cache-Control", "public, max-age=0, must-revalidate")
	v.assets.decorate(h, r.URL.Path)
	if f.status != http.StatusOK {
		w.WriteHeader(f.status)
		if r.Method != http.MethodHead {
			_, _ = w.Write(b.content)
		}
		return
	}
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(b.content)))
}

func (s *Sandbox) blobOf(v *version, hash string) (blob, bool) {
	v.owner.mu.Lock()
	defer v.owner.mu.Unlock()
	b, ok := v.owner.blobs[hash]
	return b, ok
}

// openAssets listens for the runtimes' ASSETS bindings on a unix socket of the sandbox.
func (s *Sandbox) openAssets() error {
	dir, err := os.MkdirTemp(privateDir(), "hga-")
	if err != nil {
		return err
	}
	s.dir = dir
	s.assetSocket = filepath.Join(dir, "assets")
	l, err := net.Listen("unix", s.assetSocket)
	if err != nil {
		return err
	}
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(s.serveBinding)}
	s.servers = append(s.servers, srv)
	s.serving.Go(func() { _ = srv.Serve(l) })
	return nil
}

// serveBinding answers env.ASSETS.fetch of a Worker.
func (s *Sandbox) serveBinding(w http.ResponseWriter, r *http.Request) {
	if workerd.RefuseConnect(w, r) {
		return
	}
	id, versionID, _ := strings.Cut(r.Header.Get(assetHeader), "/")
	s.mu.Lock()
	a := s.accounts[id]
	s.mu.Unlock()
	if a == nil || a.over() {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	v := a.versionByID(versionID)
	if v == nil || v.assets == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	f := v.assets.look(r.URL.Path)
	if f.status == 0 {
		f = v.assets.miss(r.URL.Path)
	}
	if f.status == 0 {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	s.send(w, r, v, f)
}

func (a *account) versionByID(id string) *version {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, v := range a.runtime.serving {
		if v.id == id {
			return v
		}
	}
	for _, sc := range a.scripts {
		if v := sc.version(id); v != nil {
			return v
		}
	}
	return nil
}
