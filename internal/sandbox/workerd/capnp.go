package workerd

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Names of services in the configuration. A Worker's begins with workerPrefix and ours
// with ownPrefix, so that neither can be taken for the other, nor for "internet".
const (
	workerPrefix = "worker:"
	ownPrefix    = "hourglass:"
)

var (
	workerName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
	envName    = regexp.MustCompile(`^[^\x00-\x1f\x7f]+$`)
)

// maxName bounds both, in characters. It is no part of the patterns: one that counts to
// 255 takes 0.2 MB, at every start of the program.
const maxName = 255

func goodWorkerName(s string) bool { return len(s) <= maxName && workerName.MatchString(s) }

func goodEnvName(s string) bool {
	return utf8.ValidString(s) && utf8.RuneCountInString(s) <= maxName && envName.MatchString(s)
}

// quote writes a Cap'n Proto text literal. It is not a JSON string: control bytes are
// \xNN, and \u is not known (workerd fact sheet, section 1). Go's and C's \ooo and \xNN
// agree; a differential test reads back what is written here.
func quote(s string) string {
	var b strings.Builder
	b.Grow(len(s) + 2)
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < 0x20 || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// served is a handler of ours and the socket that it answers on.
type served struct {
	path    string
	handler http.Handler
}

// writer makes the configuration of a process and the files that it embeds. Modules
// are files and not text in the configuration: 0.30 s against 0.38 s for 10 MB.
type writer struct {
	dir    string
	cfg    Config
	out    strings.Builder
	files  int
	known  map[string]bool // names of Workers
	extra  []string        // services made for bindings
	served []served
}

// write puts config.capnp and everything it embeds into dir. A Worker that can't be
// expressed is a *StartError.
func (c Config) write(dir string) (config string, handlers []served, err error) {
	w := &writer{dir: dir, cfg: c, known: map[string]bool{}}
	for _, wk := range c.Workers {
		if !goodWorkerName(wk.Name) {
			return "", nil, refuse(wk, "%q is not a name for a Worker: letters, digits, '-', '_' and '.' are allowed", wk.Name)
		}
		if w.known[wk.Name] {
			return "", nil, refuse(wk, "there are two Workers of that name")
		}
		w.known[wk.Name] = true
	}
	w.out.WriteString("using Workerd = import \"/workerd/workerd.capnp\";\nconst config :Workerd.Config = (\n")
	// Structured, the console goes to stdout and the runtime's own words go to stderr, one
	// JSON object each: a Worker can't print what would look like the runtime's.
	w.out.WriteString("  logging = (structuredLogging = true),\n")
	fmt.Fprintf(&w.out, "  v8Flags = [\"--max-heap-size=%d\"],\n  services = [\n", c.HeapMiB)
	for i, wk := range c.Workers {
		if err := w.worker(i, wk); err != nil {
			return "", nil, err
		}
	}
	if err := w.own(); err != nil {
		return "", nil, err
	}
	w.out.WriteString(strings.Join(w.extra, ""))
	w.out.WriteString("  ],\n  sockets = [\n")
	for i, wk := range c.Workers {
		w.socket(workerSocket(i), w.socketOf(i), workerPrefix+wk.Name)
	}
	w.socket(pingSocket, filepath.Join(dir, pingSocket), ownPrefix+"ping")
	w.out.WriteString("  ],\n);\n")
	config = filepath.Join(dir, "config.capnp")
	if err := os.WriteFile(config, []byte(w.out.String()), 0o600); err != nil {
		return "", nil, dirError(dir, err)
	}
	return config, w.served, nil
}

// Files of a private folder. None is longer than longestSocket.
const (
	pingSocket    = "ping"
	sinkSocket    = "sink"
	lockFile      = "lock"
	longestSocket = "b10000"
)

func workerSocket(i int) string { return "w" + strconv.Itoa(i) }

func (w *writer) unix(name string) string { return quote("unix:" + filepath.Join(w.dir, name)) }

// socketOf is the path of the socket that the i-th Worker listens on.
func (w *writer) socketOf(i int) string { return w.cfg.socketOf(w.dir, i) }

func (c Config) socketOf(dir string, i int) string {
	if s := c.Workers[i].Socket; s != "" {
		return s
	}
	return filepath.Join(dir, workerSocket(i))
}

func (w *writer) socket(name, path, service string) {
	fmt.Fprintf(&w.out, "    (name = %s, address = %s, http = (forwardedProtoHeader = %s, cfBlobHeader = %s), service = %s),\n",
		quote(name), quote("unix:"+path), quote(ProtoHeader), quote(CfHeader), quote(service))
}

// own adds the services that every process has: the network, the tail and the ping.
func (w *writer) own() error {
	allow := `"public"`
	switch {
	case w.cfg.NoNetwork:
		allow = ""
	case w.cfg.AllowPrivate:
		allow = `"public", "private"`
	}
	// An explicit network has no TLS at all unless it is told to trust the usual authorities.
	fmt.Fprintf(&w.out, "    (name = \"internet\", network = (allow = [%s], deny = [%s], tlsOptions = (trustBrowserCas = true))),\n", allow, w.denied())
	// The ping's answer comes from an empty folder and not from a Worker: a Worker would
	// cost 7 ms of the start and 2.3 MB. A loop in any Worker blocks it all the same.
	empty := filepath.Join(w.dir, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		return dirError(w.dir, err)
	}
	fmt.Fprintf(&w.out, "    (name = %s, disk = (path = %s)),\n", quote(ownPrefix+"ping"), quote(empty))
	if w.cfg.Outbound != nil {
		w.external(ownPrefix+"outbound", w.serve(w.cfg.Outbound), nil)
	}
	if w.cfg.OnTail == nil {
		return nil
	}
	tail, err := w.embed([]byte(tailWorker))
	if err != nil {
		return err
	}
	// The tail's own fetch() leads nowhere: it holds what the Workers' users said.
	fmt.Fprintf(&w.out, "    (name = %s, network = (allow = [])),\n", quote(ownPrefix+"nowhere"))
	fmt.Fprintf(&w.out, "    (name = %s, worker = (modules = [(name = \"tail.js\", esModule = embed %s)], compatibilityDate = \"2026-01-01\", globalOutbound = %s,\n      bindings = [(name = \"SINK\", service = %s)])),\n",
		quote(ownPrefix+"tail"), quote(tail), quote(ownPrefix+"nowhere"), quote(ownPrefix+"sink"))
	fmt.Fprintf(&w.out, "    (name = %s, external = (address = %s, http = ())),\n", quote(ownPrefix+"sink"), w.unix(sinkSocket))
	return nil
}

// denied are addresses that the runtime would count among the public ones, and which are
// this machine's all the same: what listens on all of them must not be reached by them.
func (w *writer) denied() string {
	addresses, err := net.InterfaceAddrs()
	if w.cfg.AllowPrivate || err != nil { // then "public" and its meaning are what there is
		return ""
	}
	var out []string
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok {
			ones := 8 * len(n.IP)
			if n.IP.To4() != nil {
				ones = 32
			}
			out = append(out, quote(n.IP.String()+"/"+strconv.Itoa(ones)))
		}
	}
	return strings.Join(out, ", ")
}

// worker adds one Worker.
func (w *writer) worker(i int, wk Worker) error {
	fmt.Fprintf(&w.out, "    (name = %s, worker = (\n", quote(workerPrefix+wk.Name))
	if err := w.code(wk); err != nil {
		return err
	}
	fmt.Fprintf(&w.out, "      compatibilityDate = %s,\n      compatibilityFlags = [", quote(wk.CompatibilityDate))
	for _, f := range wk.CompatibilityFlags {
		w.out.WriteString(quote(f) + ", ")
	}
	outbound := "internet"
	if w.cfg.Outbound != nil {
		outbound = ownPrefix + "outbound"
	}
	fmt.Fprintf(&w.out, "],\n      globalOutbound = %s,\n      bindings = [\n", quote(outbound))
	seen := map[string]bool{}
	for _, b := range wk.Bindings {
		if !goodEnvName(b.Name) {
			return refuse(wk, "%q is not a name for a binding", b.Name)
		}
		if seen[b.Name] {
			return refuse(wk, "two bindings are named %q", b.Name)
		}
		seen[b.Name] = true
		value, err := w.binding(wk, b)
		if err != nil {
			return err
		}
		fmt.Fprintf(&w.out, "        (name = %s, %s),\n", quote(b.Name), value)
	}
	w.out.WriteString("      ],\n")
	w.classes(i, wk)
	if w.cfg.OnTail != nil {
		fmt.Fprintf(&w.out, "      tails = [(name = %s, props = (json = %s))],\n", quote(ownPrefix+"tail"), quote(fmt.Sprintf(`{"worker":%d}`, i)))
	}
	w.out.WriteString("    )),\n")
	return nil
}

// classes adds the Durable Object classes of the i-th Worker.
func (w *writer) classes(i int, wk Worker) {
	if len(wk.Classes) == 0 {
		return
	}
	disk := ownPrefix + "objects" + strconv.Itoa(i)
	w.disk(disk, wk.Storage)
	w.out.WriteString("      durableObjectNamespaces = [\n")
	for _, c := range wk.Classes {
		fmt.Fprintf(&w.out, "        (className = %s, uniqueKey = %s, enableSql = true),\n", quote(c.Name), quote(c.Key))
	}
	fmt.Fprintf(&w.out, "      ],\n      durableObjectStorage = (localDisk = %s),\n", quote(disk))
}

// disk adds a folder as a service.
func (w *writer) disk(name, path string) {
	w.extra = append(w.extra, fmt.Sprintf("    (name = %s, disk = (path = %s, writable = true)),\n", quote(name), quote(path)))
}

// code adds the modules of a Worker, the main one first, as the runtime wants it.
func (w *writer) code(wk Worker) error {
	modules, err := ordered(wk)
	if err != nil {
		return err
	}
	if wk.ServiceWorker {
		file, err := w.embed(modules[0].Content)
		if err != nil {
			return err
		}
		fmt.Fprintf(&w.out, "      serviceWorkerScript = embed %s,\n", quote(file))
		return nil
	}
	w.out.WriteString("      modules = [\n")
	for _, m := range modules {
		if m.Bundled != "" {
			fmt.Fprintf(&w.out, "        (name = %s, bundled = %s),\n", quote(m.Name), quote(m.Bundled))
			continue
		}
		kind, err := moduleKind(wk, m)
		if err != nil {
			return err
		}
		if kind == "" {
			continue
		}
		file, err := w.embed(m.Content)
		if err != nil {
			return err
		}
		fmt.Fprintf(&w.out, "        (name = %s, %s = embed %s),\n", quote(m.Name), kind, quote(file))
	}
	w.out.WriteString("      ],\n")
	return nil
}

// ordered gives the modules under their plain names with the main one first.
func ordered(wk Worker) ([]Module, error) {
	main, err := moduleName(wk, wk.MainModule)
	if err != nil {
		return nil, err
	}
	out := make([]Module, 0, len(wk.Modules))
	seen := map[string]bool{}
	for _, m := range wk.Modules {
		if m.Name, err = moduleName(wk, m.Name); err != nil {
			return nil, err
		}
		if seen[m.Name] {
			return nil, refuse(wk, "two modules are named %q", m.Name)
		}
		seen[m.Name] = true
		if m.Name == main {
			out = slices.Insert(out, 0, m)
		} else {
			out = append(out, m)
		}
	}
	if !seen[main] {
		return nil, refuse(wk, "the main module %q is not among the modules", wk.MainModule)
	}
	return out, nil
}

// moduleName is a module's name as the runtime wants it: relative, without "./".
func moduleName(wk Worker, name string) (string, error) {
	clean := path.Clean(name)
	if name == "" || clean == "." || clean == ".." || strings.HasPrefix(clean, "../") || path.IsAbs(clean) || !goodEnvName(clean) {
		return "", refuse(wk, "%q is not a name for a module: give a relative path without '..'", name)
	}
	return clean, nil
}

// moduleKind is the runtime's word for a module's MIME type, "" for one to leave out.
func moduleKind(wk Worker, m Module) (string, error) {
	mime, _, _ := strings.Cut(m.Type, ";")
	switch strings.TrimSpace(mime) {
	case typeESModule:
		return "esModule", nil
	case typeCommonJS:
		return "commonJsModule", nil
	case typeText:
		return "text", nil
	case typeData:
		return "data", nil
	case typeWasm:
		return "wasm", nil
	case typeJSON:
		return "json", nil
	case typeSourceMap:
		return "", nil
	case "text/x-python", "text/x-python-requirement":
		return "", refuse(wk, "the module %q is Python, which this runtime is not set up for: write the Worker in JavaScript or TypeScript", m.Name)
	}
	return "", refuse(wk, "the module %q has the type %q, which the runtime does not know", m.Name, m.Type)
}

// binding gives the value of a binding.
func (w *writer) binding(wk Worker, b Binding) (string, error) {
	switch b.Kind {
	case Text:
		if !utf8.ValidString(b.Value) {
			return "", refuse(wk, "the text of the binding %q is not UTF-8", b.Name)
		}
		return "text = " + quote(b.Value), nil
	case JSON:
		if !json.Valid([]byte(b.Value)) || !utf8.ValidString(b.Value) {
			return "", refuse(wk, "the value of the binding %q is not JSON", b.Name)
		}
		return "json = " + quote(b.Value), nil
	case VersionMetadata:
		return "json = " + quote(versionMetadata(wk)), nil
	case Data, Wasm:
		file, err := w.embed(b.Bytes)
		if err != nil {
			return "", err
		}
		return map[BindingKind]string{Data: "data", Wasm: "wasmModule"}[b.Kind] + " = embed " + quote(file), nil
	case Service:
		return w.service(wk, b)
	case External, KV, D1, Queue:
		return w.outside(wk, b)
	case Objects:
		return w.objects(wk, b)
	case Disk:
		name := ownPrefix + "disk" + strconv.Itoa(len(w.extra))
		w.disk(name, b.Path)
		return "service = " + quote(name), nil
	}
	return "", refuse(wk, "the binding %q is of a kind that is not known", b.Name)
}

// outside gives the value of a binding to what is not in the process.
func (w *writer) outside(wk Worker, b Binding) (string, error) {
	address := "unix:" + b.Socket
	switch {
	case b.Handler != nil:
		address = w.serve(b.Handler)
	case !filepath.IsAbs(b.Socket):
		return "", refuse(wk, "the binding %q has neither a handler nor a socket", b.Name)
	}
	name := ownPrefix + "binding" + strconv.Itoa(len(w.extra))
	w.external(name, address, b.Headers)
	switch b.Kind {
	case KV:
		return "kvNamespace = " + quote(name), nil
	case Queue:
		return "queue = " + quote(name), nil
	case D1:
		return "wrapped = (moduleName = \"cloudflare-internal:d1-api\", innerBindings = [(name = \"fetcher\", service = " + quote(name) + ")])", nil
	}
	return "service = " + quote(name), nil
}

// objects gives the value of a binding to Durable Objects.
func (w *writer) objects(wk Worker, b Binding) (string, error) {
	owner := wk
	if b.Worker != "" && b.Worker != wk.Name {
		i := slices.IndexFunc(w.cfg.Workers, func(o Worker) bool { return o.Name == b.Worker })
		if i < 0 {
			return "", refuse(wk, "the binding %q names the Worker %q, which does not exist in this account", b.Name, b.Worker)
		}
		owner = w.cfg.Workers[i]
	}
	if !slices.ContainsFunc(owner.Classes, func(c Class) bool { return c.Name == b.Class }) {
		return "", refuse(wk, "the binding %q names the class %q, which is not a Durable Object class of the Worker %q", b.Name, b.Class, owner.Name)
	}
	return fmt.Sprintf("durableObjectNamespace = (className = %s, serviceName = %s)", quote(b.Class), quote(workerPrefix+owner.Name)), nil
}

func versionMetadata(wk Worker) string {
	stamp := ""
	if !wk.Uploaded.IsZero() {
		stamp = wk.Uploaded.UTC().Format(time.RFC3339Nano)
	}
	text, err := json.Marshal(map[string]string{"id": wk.Version, "tag": wk.Tag, "timestamp": stamp})
	if err != nil {
		return "null" // can't be: they are strings
	}
	return string(text)
}

func (w *writer) service(wk Worker, b Binding) (string, error) {
	if !w.known[b.Worker] {
		return "", refuse(wk, "the binding %q names the Worker %q, which does not exist in this account", b.Name, b.Worker)
	}
	value := "service = (name = " + quote(workerPrefix+b.Worker)
	if b.Entrypoint != "" && b.Entrypoint != "default" {
		value += ", entrypoint = " + quote(b.Entrypoint)
	}
	if b.Props != "" {
		if !json.Valid([]byte(b.Props)) {
			return "", refuse(wk, "the props of the binding %q are not JSON", b.Name)
		}
		value += ", props = (json = " + quote(b.Props) + ")"
	}
	return value + ")", nil
}

// serve gives a handler a socket, and the socket's address.
func (w *writer) serve(h http.Handler) string {
	path := filepath.Join(w.dir, "b"+strconv.Itoa(len(w.served)))
	w.served = append(w.served, served{path: path, handler: h})
	return "unix:" + path
}

// external adds a service that is outside of the runtime.
func (w *writer) external(name, address string, headers map[string]string) {
	var inject strings.Builder
	for _, k := range slices.Sorted(maps.Keys(headers)) {
		fmt.Fprintf(&inject, "(name = %s, value = %s), ", quote(k), quote(headers[k]))
	}
	w.extra = append(w.extra, fmt.Sprintf("    (name = %s, external = (address = %s, http = (forwardedProtoHeader = %s, injectRequestHeaders = [%s]))),\n",
		quote(name), quote(address), quote(ProtoHeader), inject.String()))
}

// embed puts bytes into a file of the process's folder and gives its name.
func (w *writer) embed(content []byte) (string, error) {
	name := "m" + strconv.Itoa(w.files)
	w.files++
	if err := os.WriteFile(filepath.Join(w.dir, name), content, 0o600); err != nil {
		return "", dirError(w.dir, err)
	}
	return name, nil
}

// refuse says that a Worker can't be run, before the runtime is asked.
func refuse(wk Worker, format string, args ...any) error {
	return &StartError{Worker: wk.Name, Text: fmt.Sprintf(format, args...)}
}
