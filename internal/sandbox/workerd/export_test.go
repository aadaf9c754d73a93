package workerd

import (
	"context"
	"runtime"
)

// WithShell starts a process as on systems without a parent-death signal.
func (c Config) WithShell() Config {
	c.shell = true
	return c
}

// Quote is quote.
func Quote(s string) string { return quote(s) }

// ParseStart is what becomes of the runtime's output when it doesn't start.
func ParseStart(output, dir string, names ...string) *StartError {
	said := &words{dir: dir}
	s := &stream{words: said}
	_, _ = s.Write([]byte(output))
	s.flush()
	workers := make([]Worker, len(names))
	for i, n := range names {
		workers[i].Name = n
	}
	return parseStart(said.messages(), workers, dir)
}

// Supported tells whether there is a release for a system.
func Supported(goos, goarch, root string) error {
	_, err := ours(goos, goarch, root)
	return err
}

// Fetch fetches a made-up package to path, as Find does with the pinned one.
func Fetch(ctx context.Context, cfg FindConfig, integrity, path string) error {
	return fetch(ctx, cfg, release{name: "made-up", version: "1.0.0", integrity: integrity}, path)
}

// NpmEnv is npm's environment.
func NpmEnv(tmp string) []string { return npmEnv(tmp) }

// Integrity is the pinned digest for this system.
func Integrity() string {
	r, _ := releaseFor(runtime.GOOS, runtime.GOARCH)
	return r.integrity
}

// Dir is a process's private folder.
func (p *Process) Dir() string { return p.dir }
