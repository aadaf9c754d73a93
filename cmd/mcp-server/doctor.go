package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
)

// doctorCmd tells what is missing here and how to get it.
type doctorCmd struct {
	Live bool `help:"Make one real temporary account, deploy, check, take it down, and tell what differed from the fact sheet. Never in CI."`
	JSON bool `name:"json" help:"Print the findings as one JSON object."`
}

// finding is one line of the doctor's report.
type finding struct {
	What   string `json:"what"`
	Level  string `json:"level"` // "ok", "note", "missing"
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"`
}

// Run looks and tells. It exits 1 when something that is needed is missing.
func (c *doctorCmd) Run(ctx context.Context, o *options, p process) error {
	if c.Live {
		return c.live(ctx, o, p)
	}
	all := []finding{
		checkState(ctx, o, p), checkRoots(o, p), checkRuntime(ctx, o), checkNpm(ctx), checkAPI(ctx, o, p), checkCredentials(p),
	}
	missing := false
	for _, f := range all {
		missing = missing || f.Level == "missing"
		if !c.JSON {
			fmt.Fprintf(p.stdout, "%-8s %-12s %s\n", f.Level, f.What, f.Detail)
			if f.Fix != "" {
				fmt.Fprintf(p.stdout, "%-8s %-12s → %s\n", "", "", f.Fix)
			}
		}
	}
	var err error
	if c.JSON {
		err = printJSON(p, map[string]any{"ok": !missing, "findings": all})
	}
	if missing && err == nil {
		err = &exitError{code: exitElse, quiet: true, cause: errors.New("something is missing")}
	}
	return err
}

func checkState(ctx context.Context, o *options, p process) finding {
	fix := "give a folder that can be written: --state-dir DIR"
	if inFolder(o) {
		dir, err := stateDir(o, p)
		if err != nil {
			return finding{"state", "missing", err.Error(), "--state-dir DIR"}
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return finding{"state", "missing", err.Error(), fix}
		}
		probe := filepath.Join(dir, ".doctor-"+deploy.NewID("p"))
		if err := os.WriteFile(probe, nil, 0o600); err != nil {
			return finding{"state", "missing", err.Error(), fix}
		}
		_ = os.Remove(probe)
	}
	store, err := openStore(ctx, o, p, deploy.NewRedactor())
	if err != nil {
		return finding{"state", "missing", err.Error(), ""}
	}
	defer store.Close() //nolint:errcheck // nothing was written
	ctx, stop := context.WithTimeout(ctx, 15*time.Second)
	defer stop()
	if err := store.Ping(ctx); err != nil {
		e := deploy.AsError(err)
		return finding{"state", "missing", e.Message, ""}
	}
	if !inFolder(o) {
		return finding{"state", "ok", "sessions are kept in PostgreSQL, and the key is the store's", ""}
	}
	dir, _ := stateDir(o, p)
	return finding{"state", "ok", "sessions are kept in " + dir + ", and the key is the store's", ""}
}

func checkRoots(o *options, p process) finding {
	dirs, err := roots(o, p)
	if err != nil {
		return finding{"roots", "missing", err.Error(), "--root DIR"}
	}
	if len(dirs) == 0 {
		return finding{"roots", "note", "no folder may be deployed from: the current one is the home folder or the root of the disk", "--root DIR (inline files work without)"}
	}
	return finding{"roots", "ok", "project_dir may be in " + strings.Join(dirs, ", "), ""}
}

func checkRuntime(ctx context.Context, o *options) finding {
	cache, err := cacheDir(o)
	if err != nil {
		return finding{"workerd", "note", err.Error(), "--cache-dir DIR"}
	}
	bin, err := workerd.Find(ctx, workerd.FindConfig{CacheDir: cache, NoFetch: true})
	if err != nil {
		return finding{"workerd", "note", "the Workers runtime is not here; it is needed for the sandbox, and lets a start error cost no account", "run `mcp-server demo` once: it fetches it with npm"}
	}
	return finding{"workerd", "ok", bin.Version + " at " + bin.Path, ""}
}

func checkNpm(ctx context.Context) finding {
	ctx, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	out, err := exec.CommandContext(ctx, "npm", "--version").Output()
	if err != nil {
		return finding{"npm", "note", "npm is not here; it is needed to fetch the runtime and packages of inline files", "install Node.js 20 or newer"}
	}
	return finding{"npm", "ok", strings.TrimSpace(string(out)), ""}
}

func checkAPI(ctx context.Context, o *options, p process) finding {
	if o.Platform == "sandbox" {
		return finding{"api", "ok", "the sandbox inside the server's process", ""}
	}
	quiet := p
	quiet.stderr = discard{}
	h, err := build(ctx, o, quiet)
	if err != nil {
		return finding{"api", "missing", err.Error(), ""}
	}
	defer h.close() //nolint:errcheck // nothing was written
	ctx, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	at, err := h.cloudAPI.AskClock(ctx)
	if err != nil {
		e := deploy.AsError(err)
		return finding{"api", "missing", e.Message, e.Next}
	}
	skew := time.Until(at).Round(time.Second)
	if skew.Abs() > time.Minute {
		return finding{"api", "note", fmt.Sprintf("%s answers; its clock and ours are %s apart", h.cloudAPI.Target(), skew), "set this machine's clock"}
	}
	return finding{"api", "ok", h.cloudAPI.Target() + " answers", ""}
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

func checkCredentials(p process) finding {
	if seen := foreignCredentials(p); len(seen) > 0 {
		return finding{"credentials", "note", strings.Join(seen, ", ") + ": seen, and never used by this server", ""}
	}
	return finding{"credentials", "ok", "none of a real account in sight", ""}
}
