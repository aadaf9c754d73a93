package workerd

import (
	"net/http"
	"time"
)

// The MIME types of modules, as an upload names them (wrangler-wire fact sheet, section 6).
const (
	typeESModule  = "application/javascript+module"
	typeCommonJS  = "application/javascript"
	typeText      = "text/plain"
	typeData      = "application/octet-stream"
	typeWasm      = "application/wasm"
	typeJSON      = "application/json"
	typeSourceMap = "application/source-map"
)

// Module is one module of a Worker. A leading "./" of the name does not count. A module
// of type application/source-map is left out: the runtime does not read it.
type Module struct {
	Name    string
	Type    string // a MIME type
	Content []byte
	// Bundled names a module that the runtime brings, such as "/workerd/kv.js", in place
	// of Type and Content. It needs Config.Experimental.
	Bundled string
}

// Class is a Durable Object class that a Worker exports, SQLite-backed.
type Class struct {
	Name string
	// Key names the namespace for ever: the objects of the class live in the folder of
	// that name in Worker.Storage, whatever the class is called.
	Key string
}

// BindingKind says what a Binding gives the Worker.
type BindingKind int

// The kinds of bindings. The runtime speaks HTTP to what stores (workerd fact sheet,
// section 3): KV, D1 and Queue take the same fields as External.
const (
	Text            BindingKind = iota // Value; also secrets
	JSON                               // Value, a JSON text
	Data                               // Bytes
	Wasm                               // Bytes
	Service                            // Worker of the same process, optionally its Entrypoint and Props
	External                           // an HTTP service: Handler in this process, or the unix socket Socket
	VersionMetadata                    // the Worker's Version, Tag and Uploaded
	KV                                 // a KV namespace behind Handler or Socket
	D1                                 // a D1 database behind Handler or Socket
	Queue                              // a queue's producer behind Handler or Socket
	Objects                            // the Durable Objects of a Class of Worker ("": of this one)
	Disk                               // the folder Path, as a service that reads and writes files
)

// Binding is one member of a Worker's env. Its Kind says which of the fields count.
type Binding struct {
	Name       string
	Kind       BindingKind
	Value      string
	Bytes      []byte
	Worker     string
	Entrypoint string // "" and "default" are the default export
	Class      string
	Path       string
	Props      string // a JSON text that the callee sees as ctx.props, or ""
	// Handler answers the binding's fetch() in this process, on a unix socket of the
	// binding's own; it wins over Socket. CONNECT never reaches it. It must be safe for
	// concurrent use, and end when its request's context does.
	Handler http.Handler
	// Socket is the path of a unix socket that somebody else listens on. That listener
	// must answer CONNECT with RefuseConnect.
	Socket string
	// Headers are sent with every request to an External service and override the Worker's own.
	Headers map[string]string
}

// Worker is one Worker of a process.
type Worker struct {
	Name       string // letters, digits, '-', '_', '.'
	Version    string // reported with its tail events
	Tag        string // of the version, for VersionMetadata
	Uploaded   time.Time
	MainModule string
	// ServiceWorker says that MainModule is a script in service-worker syntax (the
	// upload's body_part): then there are no other modules.
	ServiceWorker      bool
	Modules            []Module
	CompatibilityDate  string // YYYY-MM-DD
	CompatibilityFlags []string
	Bindings           []Binding
	// Classes are the Durable Object classes of the Worker; Storage is the folder with
	// their data. No two processes may use one folder at a time: neither would notice.
	Classes []Class
	Storage string
	// Socket is the path of the unix socket that the Worker listens on, for others to
	// bind to; default: one in the process's private folder.
	Socket string
}

// Config is what a process is started with.
type Config struct {
	Binary  string // path of workerd
	Workers []Worker
	// Dir is the folder in which the process's private folder (mode 0700) is made.
	// Default: the system's temporary folder. Socket paths are limited to 107 bytes (103
	// on macOS), so keep it short.
	Dir string
	// HeapMiB bounds the JavaScript heap of each Worker; beyond it the whole process ends
	// with ErrMemory. Default 192.
	HeapMiB int
	// DataMiB bounds what the process may allocate beyond its baseline of 548 MiB of
	// VmData (workerd fact sheet, section 4), by RLIMIT_DATA on Linux: an ArrayBuffer
	// that does not fit is a RangeError in the Worker. Default 768; negative: no bound.
	DataMiB int
	// Experimental lets the process use bundled modules, and Workers call the queue() and
	// scheduled() of others (the flag service_binding_extra_handlers).
	Experimental bool
	// StartTimeout bounds the start: a loop at the top level never ends. Default 5 s.
	StartTimeout time.Duration
	// StopTimeout bounds the polite end (SIGTERM), after which it is killed. Default 1 s.
	StopTimeout time.Duration
	// Linger is how long after the last request Stop lets the process live, for what
	// follows an answer: the last tail event, short waitUntil work. Default 50 ms with
	// OnTail, else none; negative: none.
	Linger time.Duration
	// SpinLimit is how long the process may not answer before it is ended. Default 5 s.
	SpinLimit time.Duration
	// PingEvery is the time between two looks at whether it answers. Default 250 ms.
	PingEvery time.Duration
	// OnTail is told every invocation, one at a time. It must not block. Without it the
	// process starts some 8 ms sooner.
	OnTail func(TailEvent)
	// OnLog is told what the runtime itself says while it runs, such as why a fetch() was
	// refused (the Worker sees only "internal error"), without our paths. It must not block.
	OnLog func(line string)
	// Outbound, when set, answers every fetch() of every Worker instead of the network;
	// the URL in Request.URL is absolute. connect() is refused then.
	Outbound http.Handler
	// NoNetwork cuts the Workers off from everything; AllowPrivate lets them reach
	// loopback and private addresses too. By default they reach public addresses only.
	NoNetwork, AllowPrivate bool

	shell bool // in tests: start it as on systems without a parent-death signal
}

// ProtoHeader and CfHeader carry the scheme that a Worker sees in request.url and the
// JSON of request.cf. The edge sets them; what a visitor sends under these names must
// not get through. The Worker does not see them. A Handler gets ProtoHeader too.
const (
	ProtoHeader = "X-Hourglass-Proto"
	CfHeader    = "X-Hourglass-Cf"
)

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		field *int
		value int
	}{{&c.HeapMiB, 192}, {&c.DataMiB, 768}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	linger := time.Duration(0)
	if c.OnTail != nil {
		linger = 50 * time.Millisecond
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.StartTimeout, 5 * time.Second},
		{&c.StopTimeout, time.Second},
		{&c.Linger, linger},
		{&c.SpinLimit, 5 * time.Second},
		{&c.PingEvery, 250 * time.Millisecond},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return c
}
