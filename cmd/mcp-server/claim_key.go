package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hourglass-mcp/hourglass/internal/session"
)

// claimKeyFile is the human's own key in the configuration folder; with .pub, the
// public one.
const claimKeyFile = "claim.key"

// claimKeyCmd is about the key that claim links are sealed to.
type claimKeyCmd struct {
	New  claimKeyNewCmd  `cmd:"" help:"Make a key under a passphrase, in your own terminal."`
	Show claimKeyShowCmd `cmd:"" help:"Print the public key, for --claim-recipient."`
}

// configDir is where the settings file and the human's key are.
func configDir(p process) (string, error) {
	if dir, _ := p.env("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "hourglass"), nil
	}
	home, _ := p.env("HOME")
	if home == "" {
		return "", errors.New("there is no home folder to keep the key in: name a file")
	}
	return filepath.Join(home, ".config", "hourglass"), nil
}

// claimKeyNewCmd makes a key.
type claimKeyNewCmd struct {
	Out string `help:"File for the key. Default: claim.key in the configuration folder." placeholder:"FILE"`
}

// Run asks for a passphrase and writes the key.
func (c *claimKeyNewCmd) Run(p process) error {
	d := newDesk(p)
	if d.in == nil {
		return refuse(errors.New("this asks a human for a passphrase, so it needs a terminal: run it yourself, not through an agent or a script"))
	}
	_, err := c.make(d, session.NewIdentity)
	return err
}

// make gives the public key.
func (c *claimKeyNewCmd) make(d *desk, identity func(string) ([]byte, string, error)) (string, error) {
	path := c.Out
	if path == "" {
		dir, err := configDir(d.p)
		if err != nil {
			return "", err
		}
		path = filepath.Join(dir, claimKeyFile)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return "", refuse(fmt.Errorf("%s is there already, and claim links may be sealed to it: name another file with --out, or move it away yourself", path))
	}
	first, err := d.passphrase("A new passphrase (several words):")
	if err != nil {
		return "", err
	}
	again, err := d.passphrase("The same once more:")
	if err != nil {
		return "", err
	}
	if first != again {
		return "", errors.New("the two were not the same; nothing was written")
	}
	file, public, err := identity(first)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("the key's folder: %w", err)
	}
	for _, f := range []struct {
		path string
		text []byte
	}{{path, file}, {path + ".pub", []byte(public + "\n")}} {
		if err := writeNew(f.path, f.text); err != nil {
			return "", err
		}
	}
	fmt.Fprintf(d.p.stdout, "Written to %s. Only your passphrase opens it, and nobody can bring that back.\nGive servers the public key: --claim-recipient %s\n", path, public)
	return public, nil
}

// writeNew writes a file that must not be there yet.
func writeNew(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // the user names it
	if err != nil {
		return fmt.Errorf("writing the key: %w", err)
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing the key: %w", err)
	}
	return nil
}

// claimKeyShowCmd prints the public key.
type claimKeyShowCmd struct{}

// Run prints it.
func (claimKeyShowCmd) Run(p process) error {
	dir, err := configDir(p)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(dir, claimKeyFile+".pub")) //nolint:gosec // ours
	if errors.Is(err, fs.ErrNotExist) {
		return refuse(errors.New("there is no key yet: make one with `mcp-server claim-key new`"))
	}
	if err != nil {
		return fmt.Errorf("the public key: %w", err)
	}
	if _, err := p.stdout.Write(b); err != nil {
		return fmt.Errorf("printing the key: %w", err)
	}
	return nil
}
