package deploy

import (
	"bytes"
	"maps"
	"slices"
	"strings"
)

// maxHosts bounds the hosts that are told of an artifact.
const maxHosts = 4096

// UnknownHost stands among the hosts of an artifact for those that can't be told: the
// code puts the name together when it runs, or there are more than are listed. No host
// has that name, so a list of allowed hosts refuses it unless it says otherwise.
const UnknownHost = "*"

// maxAuthority is where the authority of a URL is cut, in bytes: a host name has at most 253.
const maxAuthority = 300

// Facts are what a rule may see of the artifact. Values of bindings are left out.
//
// Hosts are those that stand in URLs of its code, not a wall: code can put an address
// together from pieces, take one from a request, or use raw sockets. They tell the
// careless from the careful, and what a reviewer should look at.
func (a *Artifact) Facts() WorkerFacts {
	f := WorkerFacts{
		Name: a.Name, Digest: a.Digest, Bytes: a.Bytes, GzipBytes: a.GzipBytes,
		CompatibilityDate: a.CompatibilityDate, Flags: a.CompatibilityFlags, Packages: a.Packages,
	}
	hosts := map[string]bool{}
	for _, m := range a.Modules {
		if m.Type == TypeSourceMap {
			continue
		}
		f.Modules = append(f.Modules, m.Name)
		addHosts(hosts, m.Content)
	}
	f.Hosts = slices.Sorted(maps.Keys(hosts))
	for _, b := range a.Bindings {
		f.Bindings = append(f.Bindings, BindingFact{Name: b.Name(), Type: b.Type()})
	}
	if a.Resources != nil {
		f.Crons = a.Resources.Crons
	}
	if a.Assets != nil {
		f.AssetCount = len(a.Assets.Files)
		for _, file := range a.Assets.Files {
			f.AssetBytes += int64(len(file.Content))
		}
	}
	return f
}

// addHosts adds the hosts of the absolute URLs in code to the set, which it keeps
// bounded. Slashes may be escaped, as in strings of JSON and of scripts.
func addHosts(hosts map[string]bool, code []byte) {
	for {
		i := bytes.IndexByte(code, ':')
		if i < 0 {
			return
		}
		before, after := code[:i], code[i+1:]
		code = after
		if !endsInScheme(before) {
			continue
		}
		var slashes bool
		for range 2 {
			after = bytes.TrimPrefix(after, []byte(`\`))
			after, slashes = bytes.CutPrefix(after, []byte("/"))
			if !slashes {
				break
			}
		}
		if !slashes {
			continue
		}
		after = after[:min(len(after), maxAuthority)]
		if end := bytes.IndexAny(after, " \t\r\n\"'`<>\\/?#(),;|^"); end >= 0 {
			after = after[:end]
		}
		if host := hostOf(string(after)); host != "" {
			if len(hosts) >= maxHosts && !hosts[host] {
				host = UnknownHost
			}
			hosts[host] = true
		}
	}
}

// endsInScheme tells whether a scheme of the web, as a word of its own, ends here.
func endsInScheme(b []byte) bool {
	for _, scheme := range []string{"https", "http", "wss", "ws"} {
		if n := len(b) - len(scheme); n >= 0 && strings.EqualFold(string(b[n:]), scheme) {
			return n == 0 || !isWord(b[n-1])
		}
	}
	return false
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

// hostOf is the host of a URL's authority, in lower case and without user, port and
// final dot; UnknownHost where a part of it is put in when the code runs; "" for none.
func hostOf(authority string) string {
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		authority = authority[i+1:]
	}
	if strings.ContainsAny(authority, "${}%*") {
		return UnknownHost
	}
	if rest, ok := strings.CutPrefix(authority, "["); ok { // an IPv6 address
		address, _, closed := strings.Cut(rest, "]")
		if !closed {
			return ""
		}
		return strings.ToLower(address)
	}
	host, _, _ := strings.Cut(authority, ":")
	return strings.TrimRight(strings.ToLower(host), ".")
}
