package workerd

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Report is what a Worker exports, by the Worker's own account: it is code that tells.
type Report struct {
	Handlers       []string            `json:"handlers"`        // of the default export: fetch, scheduled, queue...
	Entrypoints    map[string][]string `json:"entrypoints"`     // named ones, and their methods or handlers
	DurableObjects []string            `json:"durable_objects"` // classes that extend DurableObject
	Workflows      []string            `json:"workflows"`       // classes that extend WorkflowEntrypoint
	Classes        []string            `json:"classes"`         // others, such as Durable Objects of older code
}

//go:embed inspect.js
var inspectWorker string

// maxReport bounds a report, in bytes.
const maxReport = 1 << 20

// Inspect starts the first Worker of cfg in a throw-away process without network and
// tells what it exports: Check and 8 ms. A Worker that does not start is a *StartError.
func Inspect(ctx context.Context, cfg Config) (Report, error) {
	cfg = throwAway(cfg)
	if len(cfg.Workers) == 0 {
		return Report{}, startable(cfg)
	}
	subject := cfg.Workers[0]
	if subject.ServiceWorker {
		return Report{Handlers: []string{"fetch"}}, Check(ctx, cfg)
	}
	inspector, err := inspectorFor(subject)
	if err != nil {
		return Report{}, err
	}
	cfg.Workers = append(slices.Clone(cfg.Workers), inspector)
	p, err := Start(ctx, cfg)
	if e, ok := errors.AsType[*StartError](err); ok && e.Worker == inspector.Name {
		e.Worker = subject.Name // it runs the same code
	}
	if err != nil {
		return Report{}, err
	}
	defer p.discard()
	return p.report(ctx, inspector.Name)
}

// inspectorFor is a Worker with the same modules and surroundings and our main module.
func inspectorFor(subject Worker) (Worker, error) {
	main, err := moduleName(subject, subject.MainModule)
	if err != nil {
		return Worker{}, err
	}
	name := "inspect.js"
	for i := 0; slices.ContainsFunc(subject.Modules, func(m Module) bool { return path.Clean(m.Name) == name }); i++ {
		name = "inspect" + strconv.Itoa(i) + ".js"
	}
	code := strings.Replace(inspectWorker, `"MAIN"`, strconv.Quote("./"+main), 1)
	inspector := subject
	inspector.Name = "inspect." + strconv.Itoa(len(subject.Name)) + "." + subject.Name[:min(len(subject.Name), 200)]
	inspector.MainModule = name
	inspector.Socket, inspector.Classes = "", nil
	inspector.Bindings = slices.Clone(subject.Bindings)
	for i := range inspector.Bindings {
		if b := &inspector.Bindings[i]; b.Kind == Objects && b.Worker == "" {
			b.Worker = subject.Name // the classes are that Worker's
		}
	}
	inspector.Modules = append(slices.Clone(subject.Modules), Module{Name: name, Type: typeESModule, Content: []byte(code)})
	return inspector, nil
}

// report asks the inspector.
func (p *Process) report(ctx context.Context, inspector string) (r Report, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.StartTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://inspect/", nil)
	if err != nil {
		return r, fmt.Errorf("asking for the exports: %w", err)
	}
	resp, err := p.Transport(inspector).RoundTrip(req)
	if err != nil {
		return r, fmt.Errorf("asking for the exports: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxReport)).Decode(&r); err != nil {
		return r, fmt.Errorf("the Worker's exports can't be listed: %w", err)
	}
	return r, nil
}
