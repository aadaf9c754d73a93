package bundle

import (
	"slices"
	"strings"
)

// nodeModules are the Node.js modules that workerd brings from compatibility date
// 2026-03-17 on (wrangler-wire fact sheet, section 18; unenv preset 2.16.2), without
// "node:". sqlite exists with the prefix only.
const nodeModuleNames = ` _http_agent _http_client _http_common _http_incoming _http_outgoing _http_server
 _stream_duplex _stream_passthrough _stream_readable _stream_transform _stream_wrap _stream_writable _tls_common _tls_wrap
 assert assert/strict async_hooks buffer child_process cluster console constants crypto dgram diagnostics_channel dns
 dns/promises domain events fs fs/promises http http2 https inspector inspector/promises module net os path path/posix
 path/win32 perf_hooks process punycode querystring readline readline/promises repl sqlite stream stream/consumers
 stream/promises stream/web string_decoder sys timers timers/promises tls trace_events tty url util util/types v8 vm wasi
 worker_threads zlib `

// isNodeModule tells whether spec names a module of Node.js that workerd has.
func isNodeModule(spec string) bool {
	name, prefixed := strings.CutPrefix(spec, "node:")
	if name == "" || strings.ContainsAny(name, " \n") || name == "sqlite" && !prefixed {
		return false
	}
	i := strings.Index(nodeModuleNames, " "+name)
	for i >= 0 {
		if end := nodeModuleNames[i+1+len(name)]; end == ' ' || end == '\n' {
			return true
		}
		next := strings.Index(nodeModuleNames[i+1:], " "+name)
		if next < 0 {
			return false
		}
		i += 1 + next
	}
	return false
}

// nodeMode is how far Node.js compatibility goes for a date and flags (wrangler-wire
// fact sheet, section 18).
type nodeMode uint8

const (
	nodeOff nodeMode = iota
	nodeALS          // AsyncLocalStorage only
	nodeV1           // "node:" modules of the runtime, no polyfills
	nodeV2           // everything, with or without the prefix
)

// The dates on which Node.js compatibility changed.
const (
	dateNodeV2      = "2024-09-23" // nodejs_compat means v2 from here
	dateNoPolyfills = "2026-03-17" // from here v2 needs nothing but externals
	dateNodeDefault = "2026-08-04" // v2 without any flag
)

func nodeModeOf(date string, flags []string) nodeMode {
	has := func(f string) bool { return slices.Contains(flags, f) }
	switch {
	case has("nodejs_compat_v2"):
		return nodeV2
	case has("nodejs_compat"):
		if date >= dateNodeV2 && !has("no_nodejs_compat_v2") {
			return nodeV2
		}
		return nodeV1
	case date >= dateNodeDefault && !has("no_nodejs_compat"):
		return nodeV2
	case has("nodejs_als"):
		return nodeALS
	}
	return nodeOff
}

// nodeShim gives the module that stands in for an npm package whose own code can't
// work in the runtime (wrangler-wire fact sheet, section 18, lists the ten); "" for
// any other package.
func nodeShim(spec string) string {
	const fetchShim = `export const fetch = (...args) => globalThis.fetch(...args);
export const Headers = globalThis.Headers;
export const Request = globalThis.Request;
export const Response = globalThis.Response;
`
	switch spec {
	case "node-fetch", "node-fetch-native":
		return fetchShim + `export const AbortController = globalThis.AbortController;
export const FetchError = Error;
export const AbortError = Error;
export const isRedirect = (code) => [301, 302, 303, 307, 308].includes(code);
fetch.Promise = globalThis.Promise;
fetch.isRedirect = isRedirect;
export default fetch;
`
	case "cross-fetch":
		return fetchShim + "export default fetch;\n"
	case "cross-fetch/polyfill", "node-fetch-native/polyfill", "isomorphic-fetch":
		return "export default Object.freeze(Object.create(null));\n"
	case "inherits":
		return "import { inherits } from \"node:util\";\nexport default inherits;\n"
	case "whatwg-url":
		return "export const URL = globalThis.URL;\nexport const URLSearchParams = globalThis.URLSearchParams;\nexport default { URL, URLSearchParams };\n"
	case "whatwg-url/webidl2js-wrapper":
		return "export const URL = globalThis.URL;\nexport const URLSearchParams = globalThis.URLSearchParams;\n"
	case "fsevents":
		return "export default { watch: () => Promise.resolve(), getInfo: () => ({}) };\n"
	}
	return ""
}
