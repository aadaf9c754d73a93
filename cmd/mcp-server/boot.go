package main

import (
	"context"
	"errors"
	"sync"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
)

// boot is the preflight's boot: the artifact starts once in the real runtime, in a
// throw-away process without network, where the runtime is on this machine already.
type boot struct {
	cache string
	once  sync.Once
	bin   workerd.Binary
	err   error
}

// Boot implements deploy.Booter.
func (b *boot) Boot(ctx context.Context, a *deploy.Artifact) error {
	b.once.Do(func() {
		b.bin, b.err = workerd.Find(ctx, workerd.FindConfig{CacheDir: b.cache, NoFetch: true})
	})
	if b.err != nil {
		return b.err
	}
	w := workerd.Worker{
		Name: a.Name, MainModule: a.MainModule, CompatibilityDate: a.CompatibilityDate, CompatibilityFlags: a.CompatibilityFlags,
	}
	for _, m := range a.Modules {
		if m.Type != deploy.TypeSourceMap {
			w.Modules = append(w.Modules, workerd.Module{Name: m.Name, Type: m.Type, Content: m.Content})
		}
	}
	err := workerd.Check(ctx, workerd.Config{Binary: b.bin.Path, Workers: []workerd.Worker{w}})
	if start, ok := errors.AsType[*workerd.StartError](err); ok {
		return deploy.Errorf(deploy.CodeStartFailed,
			"Fix the code that runs when the module is loaded, then call again; nothing was spent.",
			"the Worker does not start: %s", start.Text)
	}
	return err
}
