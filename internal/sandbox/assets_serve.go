package sandbox

import (
	"bytes"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
)

// assetHeader tells the assets service whose files a binding is for. The runtime sets
// it on every request of the binding and overrides what the Worker sends.
const assetHeader = "X-Hourglass-Assets"

// found is what a path leads to: a file, an address to go to, or nothing.
type found struct {
	hash     string // of the file; "" for none
	status   int
	redirect string // decoded path
}

// attempt is one thing to try for a path: to serve a file under the address that was
// asked for, or, with to, to lead to the address under which that file is served.
type attempt struct{ file, to string }

func serve(file string) attempt    { return attempt{file: file} }
func lead(file, to string) attempt { return attempt{file, to} }

// look finds what is served for a decoded path, by html_handling. leads tells whether
// it may lead elsewhere; missing, whether not_found_handling counts.
func (as *assetSet) look(path string, leads, missing bool) found {
	for _, a := range as.attempts(path) {
		hash := as.files[a.file]
		switch {
		case hash == "":
		case a.to == "":
			return found{hash: hash, status: http.StatusOK}
		case leads && as.files[a.to] == "" && as.look(a.to, false, missing).hash == hash:
			return found{redirect: a.to, status: http.StatusTemporaryRedirect}
		}
	}
	if missing {
		return as.miss(path)
	}
	return found{}
}

// attempts lists what to try for a path, in order; a test holds it to what Cloudflare's
// own asset Worker answers.
func (as *assetSet) attempts(p string) []attempt {
	handling, _ := as.config["html_handling"].(string)
	var out []attempt
	index, isIndex := strings.CutSuffix(p, "/index")
	indexHTML, isIndexHTML := strings.CutSuffix(p, "/index.html")
	folder, isFolder := strings.CutSuffix(p, "/")
	page, isPage := strings.CutSuffix(p, ".html")
	switch handling {
	case "none":
		return []attempt{serve(p)}
	case "force-trailing-slash":
		switch {
		case isIndex:
			out = append(out, serve(p), lead(p+".html", index+"/"), lead(index+".html", index+"/"))
		case isIndexHTML:
			out = append(out, lead(p, indexHTML+"/"), lead(indexHTML+".html", indexHTML+"/"))
		case isFolder:
			out = append(out, serve(p+"index.html"), serve(folder+".html"))
		case isPage:
			out = append(out, lead(p, page+"/"), serve(p), lead(page+"/index.html", page+"/"))
		}
		return append(out, serve(p), lead(p+".html", p+"/"), lead(p+"/index.html", p+"/"))
	case "drop-trailing-slash":
		switch {
		case p == "/index":
			out = append(out, serve(p), lead("/index.html", "/"))
		case isIndex:
			out = append(out, serve(p), lead(index+".html", index), lead(p+".html", index))
		case p == "/index.html":
			out = append(out, lead(p, "/"))
		case isIndexHTML:
			out = append(out, lead(p, indexHTML), serve(p), lead(indexHTML+".html", indexHTML))
		case p == "/":
			out = append(out, serve("/index.html"))
		case isFolder:
			out = append(out, lead(folder+".html", folder), lead(folder+"/index.html", folder))
		case isPage:
			out = append(out, lead(p, page), lead(page+"/index.html", page))
		}
		return append(out, serve(p), serve(p+".html"), serve(p+"/index.html"))
	}
	switch { // auto-trailing-slash
	case isIndex:
		out = append(out, serve(p), lead(p+".html", index+"/"), lead(index+".html", index))
	case isIndexHTML:
		out = append(out, lead(p, indexHTML+"/"), lead(indexHTML+".html", indexHTML))
	case isFolder:
		out = append(out, serve(p+"index.html"), lead(folder+".html", folder))
	case isPage:
		out = append(out, lead(p, page), lead(page+"/index.html", page+"/"))
	}
	return append(out, serve(p), serve(p+".html"), lead(p+"/index.html", p+"/"))
}

// miss finds what is served when nothing matches, by not_found_handling.
func (as *assetSet) miss(path string) found {
	switch as.config["not_found_handling"] {
	case "single-page-application":
		return found{hash: as.files["/index.html"], status: http.StatusOK}
	case "404-page":
		for dir := path; dir != ""; {
			dir = dir[:max(0, strings.LastIndexByte(dir, '/'))]
			if h := as.files[dir+"/404.html"]; h != "" {
				return found{hash: h, status: http.StatusNotFound}
			}
		}
	}
	return found{}
}

// reply is what static files answer to a request.
type reply struct {
	status   int // 0: nothing matches
	location string
	hash     string
}

// reply finds the answer to a request: a line of _redirects, the files, or a 405 for
// what can't be asked of a file.
func (as *assetSet) reply(r *http.Request, missing bool) reply {
	asked := cleanPath(r.URL)
	path, proxied := asked, false
	if to, status := as.redirect(r, asked); status == http.StatusOK {
		path, proxied = to, true
	} else if status != 0 {
		return reply{status: status, location: to}
	}
	decoded := decodePath(path)
	f := as.look(decoded, true, missing)
	switch {
	case f.hash == "" && f.redirect == "" && proxied:
		return reply{status: http.StatusNotFound}
	case f.hash == "" && f.redirect == "":
		return reply{}
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return reply{status: http.StatusMethodNotAllowed}
	}
	// A file has one address, the decoded path encoded again.
	address := encodePath(decoded)
	if f.redirect != "" {
		address = encodePath(f.redirect)
	}
	if address != path || f.redirect != "" {
		if r.URL.RawQuery != "" {
			address += "?" + r.URL.RawQuery
		}
		return reply{status: http.StatusTemporaryRedirect, location: address}
	}
	return reply{status: f.status, hash: f.hash}
}

// serveAssetFirst serves a static file if one answers the request before the Worker
// does; it tells whether it did.
func (s *Sandbox) serveAssetFirst(w http.ResponseWriter, r *http.Request, v *version) bool {
	missing := true
	if v.main != "" {
		worker, files, routed := v.assets.route(cleanPath(r.URL))
		if worker {
			return false
		}
		// A Worker answers what no file does, unless rules say which paths are its own, or a
		// browser navigates.
		missing = files || routed || v.navigates() && r.Header.Get("Sec-Fetch-Mode") == "navigate"
		if !files && v.assets.reply(r, missing).status == 0 {
			return false
		}
	}
	s.send(w, r, v, v.assets.reply(r, missing))
	return true
}

// navigates tells whether a browser's navigation prefers the files, as the compatibility
// date says.
func (v *version) navigates() bool {
	const flag, since = "assets_navigation_prefers_asset_serving", "2025-04-01"
	return slices.Contains(v.flags, flag) || v.date >= since && !slices.Contains(v.flags, "assets_navigation_has_no_effect")
}

// assetMiss answers for a Worker without code whose files don't answer.
func (s *Sandbox) assetMiss(w http.ResponseWriter, r *http.Request, v *version) {
	if v.assets == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	s.send(w, r, v, reply{status: http.StatusNotFound})
}

// send sends what static files answer, with the headers that _headers names.
func (s *Sandbox) send(w http.ResponseWriter, r *http.Request, v *version, p reply) {
	h := w.Header()
	h.Set("Date", s.clock.Now().UTC().Format(http.TimeFormat))
	if p.status == 0 {
		p.status = http.StatusNotFound
	}
	if p.location != "" {
		h.Set("Location", p.location)
	}
	var b blob
	if p.hash != "" {
		var ok bool
		if b, ok = s.blobOf(v, p.hash); !ok {
			edgeError(w, s, http.StatusInternalServerError, "the asset's content is gone")
			return
		}
		h.Set("Etag", `"`+p.hash+`"`)
		if r.Header.Get("Authorization") == "" && r.Header.Get("Range") == "" {
			h.Set("Cache-Control", "public, max-age=0, must-revalidate")
		}
	}
	if b.mime != "" {
		h.Set("Content-Type", b.mime)
	} else {
		h["Content-Type"] = nil // no sniffing
	}
	v.assets.decorate(h, cleanPath(r.URL))
	if p.hash == "" || p.status != http.StatusOK {
		w.WriteHeader(p.status)
		if r.Method != http.MethodHead {
			_, _ = w.Write(b.content)
		}
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b.content))
}

func (s *Sandbox) blobOf(v *version, hash string) (blob, bool) {
	v.owner.mu.Lock()
	defer v.owner.mu.Unlock()
	b, ok := v.owner.blobs[hash]
	return b, ok
}

// openAssets listens for the runtimes' ASSETS bindings on a unix socket of the sandbox.
func (s *Sandbox) openAssets() error {
	s.assetSocket = filepath.Join(s.root, "assets")
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
	s.send(w, r, v, v.assets.reply(r, true))
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
