package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/tailscale/hujson"
)

// settingsFile gives a resolver for the JSONC settings file: the one named by
// --config or HOURGLASS_CONFIG, else hourglass.jsonc in the configuration folder if
// there is one. Its keys are the long names of flags. nil: there is none.
func settingsFile(args []string, p process) (kong.Resolver, error) {
	path, named := configPath(args, p)
	if path == "" {
		return nil, nil //nolint:nilnil // no file is no resolver
	}
	raw, err := os.ReadFile(path) //nolint:gosec // the operator names it
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil, nil //nolint:nilnil // no file is no resolver
	}
	if err != nil {
		return nil, fmt.Errorf("the settings file can't be read: %w", err)
	}
	plain, err := hujson.Standardize(raw)
	if err != nil {
		return nil, fmt.Errorf("%s is not JSONC: %w", path, err)
	}
	var values map[string]any
	if err := json.Unmarshal(plain, &values); err != nil {
		return nil, fmt.Errorf("%s is not a JSON object: %w", path, err)
	}
	return &settings{path: path, values: values, env: p.env}, nil
}

func configPath(args []string, p process) (path string, named bool) {
	for i, a := range args {
		if v, ok := strings.CutPrefix(a, "--config="); ok {
			return v, true
		}
		if a == "--config" && i+1 < len(args) {
			return args[i+1], true
		}
	}
	if v, ok := p.env("HOURGLASS_CONFIG"); ok && v != "" {
		return v, true
	}
	dir, _ := p.env("XDG_CONFIG_HOME")
	if dir == "" {
		home, _ := p.env("HOME")
		if home == "" {
			return "", false
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "hourglass", "hourglass.jsonc"), false
}

// settings resolves flags from the file, but only those that neither the command
// line nor the environment sets: kong's own order has the file beat the environment.
type settings struct {
	path   string
	values map[string]any
	env    func(string) (string, bool)
}

// Validate refuses keys that no flag has.
func (s *settings) Validate(app *kong.Application) error {
	known := map[string]bool{}
	var walk func(n *kong.Node)
	walk = func(n *kong.Node) {
		for _, f := range n.Flags {
			known[f.Name] = true
		}
		for _, c := range n.Children {
			walk(c)
		}
	}
	walk(app.Node)
	var unknown []string
	for key := range s.values {
		if !known[key] || key == "config" {
			unknown = append(unknown, key)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	return fmt.Errorf("%s: no such setting: %s (the keys are the long names of flags)", s.path, strings.Join(unknown, ", "))
}

// Resolve gives the file's value for a flag.
func (s *settings) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, name := range flag.Tag.Envs {
		if _, ok := s.env(name); ok {
			return nil, nil
		}
	}
	v, ok := s.values[flag.Name]
	if !ok {
		return nil, nil
	}
	return v, nil
}
