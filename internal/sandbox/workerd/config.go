package workerd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The MIME types of modules, as an upload names them (wrangler-wire fact sheet, section 6).
const (
	typeESModule = "application/javascript+module"
	typeCommonJS = "application/javascript"
	typeText     = "text/plain"
	typeData     = "application/octet-stream"
	typeWasm     = "application/wasm"
	typeJSON     = "application/json"
)

// Module is one module of a Worker. A leading "./" of the name does not count.
type Module struct {
	Name    string
	Type    string // a MIME type
	Content []byte
}

// BindingKind says what a Binding gives the Worker.
type BindingKind int

// The kinds of bindings. Storage comes as Wrapped or External services.
const (
	Text     BindingKind = iota // Value
	JSON                        // Value, a JSON text
	Data                        // Bytes
	Wasm                        // Bytes
	Service                     // Worker of the same process, optionally its Entrypoint
	External                    // an HTTP service on the unix socket Socket
)

// Binding is one binding of a Worker.
type Binding struct {
	Name       string
	Kind       BindingKind
	Value      string
	Bytes      []byte
	Worker     string
	Entrypoint string
	Socket     string
	// Headers are sent with every request to an External service and override the Worker's own.
	Headers map[string]string
}

// Worker is one Worker of a process.
type Worker struct {
	Name               string
	Version            string // reported with its tail events
	MainModule         string
	Modules            []Module
	CompatibilityDate  string // YYYY-MM-DD
	CompatibilityFlags []string
	Bindings           []Binding
}

// Config is what a process is started with.
type Config struct {
	Binary  string // path of workerd
	Workers []Worker
	// Dir is the folder in which the process's private folder is made. Default: the
	// system's temporary folder. Socket paths are limited to 107 bytes, so keep it short.
	Dir string
	// HeapMiB bounds the JavaScript heap of the process. Default 192.
	HeapMiB int
	// DataMiB bounds what the process may allocate beyond its baseline of 548 MiB of
	// VmData (workerd fact sheet, section 4), by RLIMIT_DATA on Linux. Default 768.
	DataMiB int
	// StartTimeout bounds the start: a loop at the top level never ends. Default 5 s.
	StartTimeout time.Duration
	// SpinLimit is how long the process may not answer while requests are in flight
	// before it is ended. Default 5 s.
	SpinLimit time.Duration
	// OnTail is told every invocation. It must not block.
	OnTail func(TailEvent)
	// NoNetwork cuts the Workers off from everything; AllowPrivate lets them reach
	// loopback and private addresses too. By default they reach public addresses only.
	NoNetwork, AllowPrivate bool
}

func (c Config) withDefaults() (Config, error) {
	if c.Binary == "" {
		return c, errors.New("workerd: no binary given")
	}
	if len(c.Workers) == 0 {
		return c, errors.New("workerd: no Worker given")
	}
	if c.Dir == "" {
		c.Dir = os.TempDir()
	}
	if c.HeapMiB == 0 {
		c.HeapMiB = 192
	}
	if c.DataMiB == 0 {
		c.DataMiB = 768
	}
	if c.StartTimeout == 0 {
		c.StartTimeout = 5 * time.Second
	}
	if c.SpinLimit == 0 {
		c.SpinLimit = 5 * time.Second
	}
	return c, nil
}

// moduleName is a module's name without a leading "./".
func moduleName(name string) string { return strings.TrimPrefix(name, "./") }

// quote writes a Cap'n Proto text literal. It is not a JSON string: control bytes are
// \xNN, and \u is not known (workerd fact sheet, section 1).
func quote(s string) string {
	var b strings.Builder
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

// writer makes the configuration of a process and the files that it embeds.
type writer struct {
	dir   string
	cfg   Config
	out   strings.Builder
	files int
	index map[string]int // Worker name → its number
	extra []string       // services made for bindings
}

// pingWorker answers the watchdog.
const pingWorker = `export default { fetch() { return new Response("ok"); } };`

// write puts config.capnp and everything it embeds into dir.
func (c Config) write(dir string) (string, error) {
	w := &writer{dir: dir, cfg: c, index: map[string]int{}}
	for i, wk := range c.Workers {
		if _, twice := w.index[wk.Name]; twice {
			return "", fmt.Errorf("workerd: two Workers are named %q", wk.Name)
		}
		w.index[wk.Name] = i
	}
	w.out.WriteString("using Workerd = import \"/workerd/workerd.capnp\";\nconst config :Workerd.Config = (\n")
	fmt.Fprintf(&w.out, "  v8Flags = [\"--max-heap-size=%d\"],\n  services = [\n", c.HeapMiB)
	for i, wk := range c.Workers {
		if err := w.worker(i, wk); err != nil {
			return "", err
		}
	}
	if err := w.house(); err != nil {
		return "", err
	}
	w.out.WriteString(strings.Join(w.extra, ""))
	w.out.WriteString("  ],\n  sockets = [\n")
	for i := range c.Workers {
		w.socket(strconv.Itoa(i), "w"+strconv.Itoa(i))
	}
	w.socket("ping", "ping")
	w.out.WriteString("  ],\n);\n")
	path := filepath.Join(dir, "config.capnp")
	return path, os.WriteFile(path, []byte(w.out.String()), 0o600)
}

func (w *writer) socket(name, service string) {
	fmt.Fprintf(&w.out, "    (name = %s, address = %s, http = (forwardedProtoHeader = %s, cfBlobHeader = %s), service = %s),\n",
		quote(name), quote("unix:"+filepath.Join(w.dir, name)), quote(ProtoHeader), quote(CfHeader), quote(service))
}

// house adds the services that every process has: the network, the tail and the ping.
func (w *writer) house() error {
	allow := `"public"`
	switch {
	case w.cfg.NoNetwork:
		allow = ""
	case w.cfg.AllowPrivate:
		allow = `"public", "private"`
	}
	fmt.Fprintf(&w.out, "    (name = \"internet\", network = (allow = [%s], tlsOptions = (trustBrowserCas = true))),\n", allow)
	ping, err := w.embed([]byte(pingWorker))
	if err != nil {
		return err
	}
	fmt.Fprintf(&w.out, "    (name = \"ping\", worker = (modules = [(name = \"ping.js\", esModule = embed %s)], compatibilityDate = \"2026-01-01\", globalOutbound = \"nowhere\")),\n", quote(ping))
	w.out.WriteString("    (name = \"nowhere\", network = (allow = [])),\n")
	if w.cfg.OnTail == nil {
		return nil
	}
	tail, err := w.embed([]byte(tailWorker))
	if err != nil {
		return err
	}
	fmt.Fprintf(&w.out, "    (name = \"tail\", worker = (modules = [(name = \"tail.js\", esModule = embed %s)], compatibilityDate = \"2026-01-01\", globalOutbound = \"nowhere\",\n      bindings = [(name = \"SINK\", service = \"sink\")])),\n", quote(tail))
	fmt.Fprintf(&w.out, "    (name = \"sink\", external = (address = %s, http = ())),\n", quote("unix:"+filepath.Join(w.dir, "sink")))
	return nil
}

// worker adds one Worker.
func (w *writer) worker(i int, wk Worker) error {
	fmt.Fprintf(&w.out, "    (name = \"w%d\", worker = (\n      modules = [\n", i)
	modules, err := ordered(wk)
	if err != nil {
		return err
	}
	for _, m := range modules {
		kind, err := moduleKind(m)
		if err != nil {
			return err
		}
		file, err := w.embed(m.Content)
		if err != nil {
			return err
		}
		fmt.Fprintf(&w.out, "        (name = %s, %s = embed %s),\n", quote(moduleName(m.Name)), kind, quote(file))
	}
	fmt.Fprintf(&w.out, "      ],\n      compatibilityDate = %s,\n      compatibilityFlags = [", quote(wk.CompatibilityDate))
	for _, f := range wk.CompatibilityFlags {
		w.out.WriteString(quote(f) + ", ")
	}
	w.out.WriteString("],\n      globalOutbound = \"internet\",\n      bindings = [\n")
	for j, b := range wk.Bindings {
		if err := w.binding(i, j, b); err != nil {
			return err
		}
	}
	w.out.WriteString("      ],\n")
	if w.cfg.OnTail != nil {
		fmt.Fprintf(&w.out, "      tails = [(name = \"tail\", props = (json = %s))],\n", quote(fmt.Sprintf(`{"worker":%d}`, i)))
	}
	w.out.WriteString("    )),\n")
	return nil
}

// ordered gives the modules with the main one first, as the runtime wants it.
func ordered(wk Worker) ([]Module, error) {
	out := make([]Module, 0, len(wk.Modules))
	for _, m := range wk.Modules {
		if moduleName(m.Name) == moduleName(wk.MainModule) {
			out = append(out, m)
		}
	}
	if len(out) != 1 {
		return nil, &StartError{Worker: wk.Name, Text: fmt.Sprintf("the main module %q is not among the modules", wk.MainModule)}
	}
	for _, m := range wk.Modules {
		if moduleName(m.Name) != moduleName(wk.MainModule) {
			out = append(out, m)
		}
	}
	return out, nil
}

func moduleKind(m Module) (string, error) {
	mime, _, _ := strings.Cut(m.Type, ";")
	switch mime {
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
	}
	return "", fmt.Errorf("workerd: module %q has the type %q, which the runtime does not know", m.Name, m.Type)
}

func (w *writer) binding(worker, n int, b Binding) error {
	value := ""
	switch b.Kind {
	case Text:
		value = "text = " + quote(b.Value)
	case JSON:
		value = "json = " + quote(b.Value)
	case Data, Wasm:
		file, err := w.embed(b.Bytes)
		if err != nil {
			return err
		}
		value = map[BindingKind]string{Data: "data", Wasm: "wasmModule"}[b.Kind] + " = embed " + quote(file)
	case Service:
		i, ok := w.index[b.Worker]
		if !ok {
			return fmt.Errorf("workerd: the binding %q names the Worker %q, which is not in this process", b.Name, b.Worker)
		}
		value = fmt.Sprintf("service = (name = \"w%d\"", i)
		if b.Entrypoint != "" {
			value += ", entrypoint = " + quote(b.Entrypoint)
		}
		value += ")"
	case External:
		name := fmt.Sprintf("x%d-%d", worker, n)
		headers := ""
		for k, v := range b.Headers {
			headers += fmt.Sprintf("(name = %s, value = %s), ", quote(k), quote(v))
		}
		w.extra = append(w.extra, fmt.Sprintf("    (name = %s, external = (address = %s, http = (forwardedProtoHeader = %s, injectRequestHeaders = [%s]))),\n",
			quote(name), quote("unix:"+b.Socket), quote(ProtoHeader), headers))
		value = "service = " + quote(name)
	}
	fmt.Fprintf(&w.out, "        (name = %s, %s),\n", quote(b.Name), value)
	return nil
}

// embed puts bytes into a file of the process's folder and gives its name.
func (w *writer) embed(content []byte) (string, error) {
	name := "m" + strconv.Itoa(w.files)
	w.files++
	if err := os.WriteFile(filepath.Join(w.dir, name), content, 0o600); err != nil {
		return "", fmt.Errorf("workerd: writing a module: %w", err)
	}
	return name, nil
}
