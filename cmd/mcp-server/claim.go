package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/session"
)

// claimCmd opens a sealed claim link. It is for the human whose key it is sealed to.
type claimCmd struct {
	What       string `arg:"" optional:"" help:"A session, or a claim file (deploy --claim-out). Default: the newest session."`
	Identity   string `help:"Your key: what claim-key new made, or an age identity file. Default: claim.key in the configuration folder." placeholder:"FILE"`
	QR         bool   `name:"qr" help:"Show a QR code and the link, and open no browser. So it is over SSH."`
	Adopted    bool   `help:"Say that you finished at Cloudflare: the account is in your dashboard." xor:"word"`
	NotAdopted bool   `help:"Say that you did not finish there." xor:"word"`
	Print      bool   `help:"Print the link although standard output is no terminal, and ask nothing."`
}

// desk is the human's place, as the claim commands use it.
type desk struct {
	p    process
	in   *os.File // nil: no terminal to ask at
	tty  bool     // what is printed is seen by the human alone
	open func(ctx context.Context, link string) error
	now  func() time.Time
}

func newDesk(p process) *desk {
	d := &desk{p: p, now: now, open: openBrowser}
	if f, ok := p.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		d.in = f
	}
	if f, ok := p.stdout.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		d.tty = true
	}
	return d
}

// passphrase asks without showing what is typed.
func (d *desk) passphrase(question string) (string, error) {
	if d.in == nil {
		return "", errors.New("a passphrase is asked for at a terminal: run this yourself, not through an agent or a script")
	}
	// The terminal stops showing what is typed before the question stands there: a fast
	// hand would be seen otherwise.
	before, err := term.MakeRaw(int(d.in.Fd()))
	if err != nil {
		return "", fmt.Errorf("the terminal: %w", err)
	}
	text, err := term.NewTerminal(keyboard{d.in, d.p.stderr}, "").ReadPassword(question + " ")
	if err = errors.Join(err, term.Restore(int(d.in.Fd()), before)); err != nil {
		return "", errors.New("no passphrase was given")
	}
	return text, nil
}

// keyboard is what a person types at, and where the questions are shown.
type keyboard struct {
	io.Reader
	io.Writer
}

// claimSealer seals to --claim-recipient; nil without.
func claimSealer(o *options) (deploy.ClaimSealer, error) {
	if len(o.ClaimRecipient) == 0 {
		return nil, nil //nolint:nilnil // nobody is nobody
	}
	r, err := session.ParseRecipients(o.ClaimRecipient)
	if err != nil {
		return nil, fmt.Errorf("--claim-recipient: %w", err)
	}
	return r, nil
}

// writeClaim writes the claim file of a session for somebody who decides elsewhere.
func writeClaim(ctx context.Context, h *house, c deploy.Caller, sessionID, path string) error {
	file, err := h.service.SealedClaim(ctx, c, sessionID)
	if err != nil {
		return err
	}
	b, err := file.Encode()
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return fmt.Errorf("the claim file: %w", err)
	}
	return nil
}

// Run shows what would be adopted, asks, and opens Cloudflare's page.
func (c *claimCmd) Run(ctx context.Context, o *options, p process) error {
	return c.run(ctx, o, newDesk(p))
}

func (c *claimCmd) run(ctx context.Context, o *options, d *desk) error {
	if !d.tty && !c.Print {
		return refuse(errors.New("the claim link owns the whole account, so it is shown at a terminal only: run this yourself, not through an agent or a script (--print shows it all the same)"))
	}
	if d.in == nil && !c.Print {
		return refuse(errors.New("this asks a human, so it needs a terminal: run it yourself, not through an agent or a script"))
	}
	if c.Adopted || c.NotAdopted {
		return c.say(ctx, o, d)
	}
	h, file, err := c.find(ctx, o, d.p)
	if err != nil {
		return err
	}
	if h != nil {
		defer h.close() //nolint:errcheck // everything is on disk by then
	}
	showClaim(file, d)
	if !d.now().Before(file.ExpiresAt) {
		return &deploy.Error{
			Code: deploy.CodeSessionExpired, Message: "the account's hour is over: it can't be kept any more",
			Next: "Deploy again, and decide within the hour.",
		}
	}
	if !c.Print {
		yes, err := (&asker{in: bufio.NewReader(d.in), p: d.p}).yes("Keep all of this in your own Cloudflare account?")
		if err != nil {
			return err
		}
		if !yes {
			fmt.Fprintln(d.p.stdout, "Nothing was opened. It ends by itself when the time is over.")
			return nil
		}
	}
	link, err := c.unseal(file, d)
	if err != nil {
		return err
	}
	if h == nil {
		fmt.Fprintln(d.p.stderr, "This is a claim file: the server that deployed it is not told of your decision.")
	} else if err := h.service.AdoptSealed(ctx, file.SessionID, file.Digest, deploy.Human{Name: operator().Principal}); err != nil {
		return err
	}
	if err := c.deliver(ctx, link, d); err != nil || h == nil || c.Print {
		return err
	}
	fmt.Fprintf(d.p.stdout, "When you have finished there, say so: mcp-server claim %s --adopted\n", file.SessionID)
	return nil
}

// say records the human's word about how it ended at Cloudflare, which tells nobody.
func (c *claimCmd) say(ctx context.Context, o *options, d *desk) (err error) {
	if d.in == nil {
		return refuse(errors.New("this takes a human's word, so it needs a terminal: run it yourself, not through an agent or a script"))
	}
	o.brief = true
	h, err := build(ctx, o, d.p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	id := c.What
	if id == "" {
		if id, err = newestSession(ctx, h); err != nil {
			return err
		}
	}
	claim, err := h.store.Claim(ctx, id)
	if err != nil {
		return err
	}
	if claim == nil {
		return refuse(fmt.Errorf("nobody was asked to keep the account of a session %q on this store: name the session, not a claim file", printable(id)))
	}
	question := "Have you finished at Cloudflare: is the account of session " + id + " in your dashboard?"
	if c.NotAdopted {
		question = "Shall it be noted that the account of session " + id + " was not taken over?"
	}
	yes, err := (&asker{in: bufio.NewReader(d.in), p: d.p}).yes(question)
	if err != nil || !yes {
		return err
	}
	if err := h.service.Adopted(ctx, claim.ID, c.Adopted, deploy.Human{Name: operator().Principal, Channel: deploy.ChannelCommand}); err != nil {
		return err
	}
	fmt.Fprintln(d.p.stdout, "Noted.")
	return nil
}

// find reads the claim file that is named, or asks the store for a session's; then it
// gives the house, open, too.
func (c *claimCmd) find(ctx context.Context, o *options, p process) (*house, *deploy.ClaimFile, error) {
	if c.What != "" {
		b, err := os.ReadFile(c.What)
		if err == nil {
			file, err := deploy.ParseClaimFile(b)
			return nil, file, err
		}
		if !errors.Is(err, fs.ErrNotExist) || strings.ContainsAny(c.What, `/\.`) {
			return nil, nil, refuse(fmt.Errorf("the claim file: %w", err))
		}
	}
	o.brief = true
	h, err := build(ctx, o, p)
	if err != nil {
		return nil, nil, err
	}
	file, err := c.ofSession(ctx, h)
	if err != nil {
		return nil, nil, errors.Join(err, h.close())
	}
	return h, file, nil
}

func (c *claimCmd) ofSession(ctx context.Context, h *house) (*deploy.ClaimFile, error) {
	id := c.What
	if id == "" {
		var err error
		if id, err = newestSession(ctx, h); err != nil {
			return nil, err
		}
	}
	// Whoever has the store and the key may keep it, whosever agent asked: over HTTP no
	// session is the local user's.
	owner := cliCaller(nil)
	found, err := h.store.SessionsWhere(ctx, deploy.SessionFilter{ID: id})
	if err != nil {
		return nil, err
	}
	if len(found) == 1 {
		owner.Principal = found[0].Principal
	}
	return h.service.SealedClaim(ctx, owner, id)
}

func newestSession(ctx context.Context, h *house) (string, error) {
	all, err := h.store.Sessions(ctx, principal, 1)
	if err != nil {
		return "", err
	}
	if len(all) == 0 {
		return "", errors.New("nothing has been deployed from here yet; name a session, or a claim file")
	}
	return all[0].ID, nil
}

// unseal opens the link with the human's key and checks that it is this account's and
// leads to Cloudflare: anybody can seal something to a public key.
func (c *claimCmd) unseal(file *deploy.ClaimFile, d *desk) (*deploy.ClaimLink, error) {
	path := c.Identity
	if path == "" {
		dir, err := configDir(d.p)
		if err != nil {
			return nil, err
		}
		path = filepath.Join(dir, claimKeyFile)
	}
	b, err := os.ReadFile(path) //nolint:gosec // the user names it
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refuse(fmt.Errorf("there is no key at %s: name yours with --identity FILE, or make one with `mcp-server claim-key new`", path))
	}
	if err != nil {
		return nil, fmt.Errorf("your key: %w", err)
	}
	id, err := session.OpenIdentity(b, func() (string, error) { return d.passphrase("Passphrase of " + path + ":") })
	if err != nil {
		return nil, err
	}
	link, err := id.OpenClaim(deploy.Secret(file.Sealed))
	if err != nil {
		return nil, err
	}
	if link.AccountID != file.AccountID || link.SessionID != file.SessionID {
		return nil, &deploy.Error{
			Code: deploy.CodeInvalidArgument, Message: "the sealed link belongs to another account than the one that is described: somebody put the two together",
			Next: "Don't keep anything. Ask whoever gave you the file where it comes from.",
		}
	}
	return link, checkClaimHost(link)
}

// checkClaimHost lets nothing through but Cloudflare's own pages, and those of a sandbox
// on this machine.
func checkClaimHost(link *deploy.ClaimLink) error {
	u, err := url.Parse(link.URL.Reveal())
	if err == nil && u.User == nil {
		host := strings.ToLower(u.Hostname())
		ip := net.ParseIP(host)
		switch {
		case u.Scheme == "https" && (host == "cloudflare.com" || strings.HasSuffix(host, ".cloudflare.com")):
			return nil
		case (u.Scheme == "http" || u.Scheme == "https") && (host == "localhost" || ip != nil && ip.IsLoopback()):
			return nil
		}
	}
	return &deploy.Error{
		Code: deploy.CodeInvalidArgument, Message: "the sealed link does not lead to Cloudflare: it was not sealed by an honest server",
		Next: "Don't keep anything. Ask whoever gave you the file where it comes from.",
	}
}

// deliver opens the browser, or shows the link as text and QR code on this terminal.
func (c *claimCmd) deliver(ctx context.Context, link *deploy.ClaimLink, d *desk) error {
	w := d.p.stdout
	if !d.tty {
		fmt.Fprintln(w, link.URL.Reveal())
		return nil
	}
	over, _ := d.p.env("SSH_CONNECTION")
	if !c.QR && !c.Print && over == "" {
		err := d.open(ctx, link.URL.Reveal())
		if err == nil {
			fmt.Fprintln(w, "Cloudflare's page is open in your browser. Log in there within the hour; what you see there is what you keep.")
			return nil
		}
		fmt.Fprintln(w, "No browser could be opened here; the link itself:")
	}
	code, err := qrText(link.URL.Reveal())
	if err == nil {
		fmt.Fprint(w, code)
	}
	fmt.Fprintf(w, "%s\nWhoever has this link owns the account: open it, and clear this terminal.\n", link.URL.Reveal())
	return nil
}

// openBrowser hands a link to the desktop.
func openBrowser(ctx context.Context, link string) error {
	cmd := exec.CommandContext(ctx, "xdg-open", link)
	switch runtime.GOOS {
	case "darwin":
		cmd = exec.CommandContext(ctx, "open", link)
	case "windows":
		cmd = exec.CommandContext(ctx, "rundll32", "url.dll,FileProtocolHandler", link)
	}
	if err := cmd.Run(); err != nil {
		return errors.New("no browser could be started") // the cause would name the link
	}
	return nil
}
