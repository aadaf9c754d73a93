package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/term"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/session"
)

// setupCmd accepts the terms and configures a client, with the user at the keyboard.
type setupCmd struct {
	Print bool `help:"Print the configuration instead of offering to write it."`
}

// Run asks and writes. It refuses without a terminal: an agent must not answer for
// the user.
func (c *setupCmd) Run(ctx context.Context, o *options, p process) error {
	in, ok := p.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return errors.New("setup asks a human, so it needs a terminal: run it yourself, not through an agent or a script (a script's operator can use --accept-terms instead)")
	}
	h, err := build(ctx, o, p)
	if err != nil {
		return err
	}
	ask := &asker{in: bufio.NewReader(p.stdin), p: p}
	return errors.Join(c.talk(ctx, h, ask, p), h.close())
}

func (c *setupCmd) talk(ctx context.Context, h *house, ask *asker, p process) error {
	fmt.Fprintf(p.stdout, "%s\n\n", h.service.Terms())
	yes, err := ask.yes("Do you accept both, for every temporary account that is made from this machine?")
	if err != nil {
		return err
	}
	if !yes {
		return errors.New("without acceptance no temporary account is made; nothing was written")
	}
	if err := h.service.AcceptTerms(ctx, deploy.Caller{Principal: principal}, "setup"); err != nil {
		return err
	}
	fmt.Fprintln(p.stdout, "Recorded, with the time and the text.")
	cwd, _ := os.Getwd()
	dir, err := ask.line("Which folder may agents deploy from?", cwd)
	if err != nil {
		return err
	}
	if dir, err = rootPath(dir); err != nil {
		return fmt.Errorf("the folder: %w", err)
	}
	if home, _ := p.env("HOME"); never(dir, home) {
		return errors.New("the root of the disk and the home folder are never allowed; name the project's folder")
	}
	public, err := claimKeyFor(ask, p)
	if err != nil {
		return err
	}
	return c.clients(ask, p, dir, public)
}

// claimKeyFor offers to seal claim links to a key of the user's, and gives its public
// half; empty: no.
func claimKeyFor(ask *asker, p process) (string, error) {
	dir, err := configDir(p)
	if err != nil {
		return "", nil //nolint:nilerr // without a home there is no place for a key
	}
	fmt.Fprint(p.stdout, "\nWho has an account's claim link owns the account. It can be sealed to a key of yours, so that no agent and no\nprogram of this machine can use it, and you keep an account with `mcp-server claim`.\n")
	had, err := os.ReadFile(filepath.Join(dir, claimKeyFile+".pub")) //nolint:gosec // ours
	if public := strings.TrimSpace(string(had)); err == nil && public != "" {
		yes, err := ask.yes("Seal claim links to the key that you have (" + public + ")?")
		if err != nil || !yes {
			return "", err
		}
		return public, nil
	}
	yes, err := ask.yes("Make such a key under a passphrase now?")
	if err != nil || !yes {
		return "", err
	}
	return (&claimKeyNewCmd{}).make(newDesk(p), session.NewIdentity)
}

// mcpClient is one client that setup knows: where its configuration lies and how its
// entry looks.
type mcpClient struct {
	name  string
	path  func(home, project string) string
	key   string // of the object that holds the servers
	stdio bool   // the entry says "type": "stdio"
}

// mcpClients lists the four clients of examples/clients.
func mcpClients() []mcpClient {
	return []mcpClient{
		{"Claude Code (this project)", func(_, project string) string { return filepath.Join(project, ".mcp.json") }, "mcpServers", true},
		{"Claude Desktop", claudeDesktop, "mcpServers", false},
		{"Cursor (this project)", func(_, project string) string { return filepath.Join(project, ".cursor", "mcp.json") }, "mcpServers", false},
		{"VS Code (this project)", func(_, project string) string { return filepath.Join(project, ".vscode", "mcp.json") }, "servers", true},
	}
}

func claudeDesktop(home, _ string) string {
	for _, dir := range []string{"Library/Application Support/Claude", "AppData/Roaming/Claude"} {
		if _, err := os.Stat(filepath.Join(home, dir)); err == nil {
			return filepath.Join(home, dir, "claude_desktop_config.json")
		}
	}
	return filepath.Join(home, ".config", "Claude", "claude_desktop_config.json")
}

func (c *setupCmd) clients(ask *asker, p process, project, recipient string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	if strings.Contains(self, "go-build") {
		self = "mcp-server"
		fmt.Fprintln(p.stdout, "This program runs from a build cache; the configuration names `mcp-server`, so install it: go install ./cmd/mcp-server")
	}
	home, _ := p.env("HOME")
	for _, cl := range mcpClients() {
		path := cl.path(home, project)
		args := []string{"stdio", "--root", project}
		if recipient != "" {
			args = append(args, "--claim-recipient", recipient)
		}
		entry := map[string]any{"command": self, "args": args}
		if cl.stdio {
			entry["type"] = "stdio"
		}
		if c.Print {
			fmt.Fprintf(p.stdout, "\n%s (%s):\n%s\n", cl.name, path, indent(map[string]any{cl.key: map[string]any{"hourglass": entry}}))
			continue
		}
		yes, err := ask.yes(fmt.Sprintf("Write the configuration for %s to %s?", cl.name, path))
		if err != nil {
			return err
		}
		if !yes {
			continue
		}
		if err := mergeClient(path, cl.key, entry); err != nil {
			return err
		}
		fmt.Fprintln(p.stdout, "Written.")
	}
	fmt.Fprintln(p.stdout, "\nDone. Restart the client, then ask it to deploy a small Worker.")
	return nil
}

// mergeClient adds our entry to a client's configuration and leaves the rest as it was.
func mergeClient(path, key string, entry map[string]any) error {
	all := map[string]any{}
	raw, err := os.ReadFile(path) //nolint:gosec // the user said yes to this path
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("reading %s: %w", path, err)
	default:
		if err := json.Unmarshal(raw, &all); err != nil {
			return fmt.Errorf("%s is not plain JSON, so it is left alone; run setup --print and add the entry by hand: %w", path, err)
		}
	}
	servers, ok := all[key].(map[string]any)
	if !ok {
		if all[key] != nil {
			return fmt.Errorf("%s: %q is not an object, so it is left alone", path, key)
		}
		servers = map[string]any{}
	}
	servers["hourglass"] = entry
	all[key] = servers
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("making the folder: %w", err)
	}
	tmp := path + ".hourglass-new"
	if err := os.WriteFile(tmp, []byte(indent(all)+"\n"), 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", tmp, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

func indent(v any) string {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

// asker asks the person at the terminal.
type asker struct {
	in *bufio.Reader
	p  process
}

func (a *asker) line(question, preset string) (string, error) {
	fmt.Fprintf(a.p.stdout, "%s [%s] ", question, preset)
	text, err := a.in.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("reading the answer: %w", err)
	}
	return stringOr(strings.TrimSpace(text), preset), nil
}

func (a *asker) yes(question string) (bool, error) {
	text, err := a.line(question+" (yes/no)", "no")
	return strings.EqualFold(text, "yes") || strings.EqualFold(text, "y"), err
}
