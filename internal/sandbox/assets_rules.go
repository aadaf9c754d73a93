package sandbox

import (
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

// redirect finds where a path is redirected to; 200 means that another file is served.
func (as *assetSet) redirect(u *url.URL) (to string, status int) {
	for _, rule := range as.redirects {
		if m := rule.from.FindStringSubmatch(u.Path); m != nil {
			to = fill(rule.to, rule.names, m)
			if u.RawQuery != "" && !strings.Contains(to, "?") {
				to += "?" + u.RawQuery
			}
			return to, rule.status
		}
	}
	return "", 0
}

// decorate sets the headers that _headers names for a path.
func (as *assetSet) decorate(h http.Header, path string) {
	for _, rule := range as.headers {
		m := rule.path.FindStringSubmatch(path)
		if m == nil {
			continue
		}
		for _, name := range rule.unset {
			h.Del(name)
		}
		for _, kv := range rule.set {
			value := fill(kv[1], rule.names, m)
			if old := h.Get(kv[0]); old != "" && !strings.EqualFold(kv[0], "Content-Type") && !strings.EqualFold(kv[0], "Cache-Control") {
				value = old + ", " + value
			}
			h.Set(kv[0], value)
		}
	}
}

// runsFirst tells whether the Worker comes before the files for a path.
func (as *assetSet) runsFirst(path string) bool {
	switch rule := as.config["run_worker_first"].(type) {
	case bool:
		return rule
	case []any:
		first := false
		for _, r := range rule {
			text, _ := r.(string)
			pattern, negative := strings.CutPrefix(text, "!")
			re := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + "$")
			if !re.MatchString(path) {
				continue
			}
			if negative {
				return false
			}
			first = true
		}
		return first
	}
	return false
}
