package sandbox

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// redirectRule is a line of _redirects.
type redirectRule struct {
	from   *regexp.Regexp
	names  []string
	to     string
	status int
}

// headerRule is a block of _headers.
type headerRule struct {
	path  *regexp.Regexp
	names []string
	set   [][2]string
	unset []string
}

const maxRules = 2100 // of _redirects, as documented for static assets

// parseRules reads _redirects and _headers, which come as raw text in the config.
func (as *assetSet) parseRules() error {
	text, _ := as.config["_redirects"].(string)
	for line := range strings.SplitSeq(text, "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) < 2 || len(as.redirects) >= maxRules {
			return refuse(http.StatusBadRequest, 100324, "a line of _redirects can't be used: %q", line)
		}
		rule := redirectRule{to: f[1], status: http.StatusFound}
		if len(f) > 2 {
			n, err := strconv.Atoi(f[2])
			if err != nil || n != 200 && (n < 300 || n > 308) {
				return refuse(http.StatusBadRequest, 100324, "the status of a line of _redirects can't be used: %q", line)
			}
			rule.status = n
		}
		rule.from, rule.names = pathPattern(f[0])
		as.redirects = append(as.redirects, rule)
	}
	text, _ = as.config["_headers"].(string)
	for line := range strings.SplitSeq(text, "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case trimmed == "" || strings.HasPrefix(trimmed, "#"):
		case strings.TrimLeft(line, " \t") == line:
			re, names := pathPattern(trimmed)
			as.headers = append(as.headers, headerRule{path: re, names: names})
		case len(as.headers) == 0:
			return refuse(http.StatusBadRequest, 100324, "a line of _headers comes before any path: %q", line)
		default:
			last := &as.headers[len(as.headers)-1]
			if name, ok := strings.CutPrefix(trimmed, "! "); ok {
				last.unset = append(last.unset, strings.TrimSpace(name))
				continue
			}
			name, value, ok := strings.Cut(trimmed, ":")
			if !ok {
				return refuse(http.StatusBadRequest, 100324, "a line of _headers is no header: %q", line)
			}
			last.set = append(last.set, [2]string{strings.TrimSpace(name), strings.TrimSpace(value)})
		}
	}
	return nil
}

var placeholder = regexp.MustCompile(`:[A-Za-z]\w*|\*`)

// pathPattern turns "/a/:b/*" into an expression and the names of its parts; the
// star's name is "splat".
func pathPattern(pattern string) (*regexp.Regexp, []string) {
	var b strings.Builder
	var names []string
	b.WriteString("^")
	last := 0
	for _, m := range placeholder.FindAllStringIndex(pattern, -1) {
		b.WriteString(regexp.QuoteMeta(pattern[last:m[0]]))
		if part := pattern[m[0]:m[1]]; part == "*" {
			names = append(names, "splat")
			b.WriteString("(.*)")
		} else {
			names = append(names, part[1:])
			b.WriteString("([^/]+)")
		}
		last = m[1]
	}
	b.WriteString(regexp.QuoteMeta(pattern[last:]) + "$")
	return regexp.MustCompile(b.String()), names
}

// fill puts the matched parts into a text.
func fill(text string, names, values []string) string {
	for i, n := range names {
		text = strings.ReplaceAll(text, ":"+n, values[i+1])
	}
	return text
}

// cleanPath is the path of a URL as browsers and the runtime have it: encoded, with
// "." and ".." resolved.
func cleanPath(u *url.URL) string {
	raw := strings.ReplaceAll(u.EscapedPath(), `\`, "/")
	var out []string
	parts := strings.Split(strings.TrimPrefix(raw, "/"), "/")
	for i, part := range parts {
		switch strings.ReplaceAll(strings.ToLower(part), "%2e", ".") {
		case ".", "..":
			if strings.Count(strings.ReplaceAll(strings.ToLower(part), "%2e", "."), ".") == 2 && len(out) > 0 {
				out = out[:len(out)-1]
			}
			if i == len(parts)-1 {
				out = append(out, "")
			}
		default:
			out = append(out, part)
		}
	}
	return "/" + strings.Join(out, "/")
}

// decodePath decodes a path part by part; what can't be decoded stays. Several slashes
// in a row are one.
func decodePath(path string) string {
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if d, err := url.PathUnescape(part); err == nil {
			parts[i] = d
		}
	}
	path = strings.Join(parts, "/")
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	return path
}

// encodePath encodes all but letters, digits and -_.!~*'() and the slashes.
func encodePath(path string) string {
	var b strings.Builder
	for i := range len(path) {
		c := path[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.!~*'()/", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// redirect finds where a path is redirected to; with 200 to is the path whose file is
// served in its place.
func (as *assetSet) redirect(r *http.Request, path string) (to string, status int) {
	for _, rule := range as.redirects {
		m := rule.from.FindStringSubmatch(path)
		if m == nil {
			continue
		}
		base := &url.URL{Scheme: "https", Host: r.Host, Path: "/"}
		target, err := base.Parse(oneSlash(fill(rule.to, rule.names, m)))
		if err != nil {
			continue
		}
		if rule.status == http.StatusOK {
			return cleanPath(target), rule.status
		}
		if target.RawQuery == "" {
			target.RawQuery = r.URL.RawQuery
		}
		if target.Host == base.Host {
			target.Scheme, target.Host = "", ""
		}
		return target.String(), rule.status
	}
	return "", 0
}

var external = regexp.MustCompile(`^(?:\w+://|//[^/\\\s?#])`)

// oneSlash makes several slashes in the path of a target one, unless it leads outside.
func oneSlash(to string) string {
	if external.MatchString(to) {
		return to
	}
	i := strings.IndexAny(to, "?#")
	if i < 0 {
		i = len(to)
	}
	path := to[:i]
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	return path + to[i:]
}

// decorate sets the headers that _headers names for a path: the first one of a name
// replaces what was there, further ones are added to it.
func (as *assetSet) decorate(h http.Header, path string) {
	set := map[string]bool{}
	for _, rule := range as.headers {
		m := rule.path.FindStringSubmatch(path)
		if m == nil {
			continue
		}
		for _, name := range rule.unset {
			h.Del(name)
		}
		for _, kv := range rule.set {
			name, value := http.CanonicalHeaderKey(kv[0]), fill(kv[1], rule.names, m)
			if old := h.Get(name); set[name] && old != "" {
				value = old + ", " + value
			}
			h.Set(name, value)
			set[name] = true
		}
	}
}

// route tells by run_worker_first whether a path is the Worker's or the files', and
// whether there are rules at all.
func (as *assetSet) route(path string) (worker, files, routed bool) {
	switch rule := as.config["run_worker_first"].(type) {
	case bool:
		return rule, false, false
	case []any:
		for _, r := range rule {
			text, _ := r.(string)
			pattern, negative := strings.CutPrefix(text, "!")
			re := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + "$")
			if !re.MatchString(path) {
				continue
			}
			if negative {
				return false, true, true
			}
			worker = true
		}
		return worker, false, true
	}
	return false, false, false
}
