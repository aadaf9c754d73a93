package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/web"
)

// tokensCmd keeps the file of static tokens.
type tokensCmd struct {
	File   string          `help:"The file. Default: tokens.json in the state folder." placeholder:"FILE"`
	Add    tokensAddCmd    `cmd:"" help:"Make a token. It is shown once, on standard output."`
	List   tokensListCmd   `cmd:"" help:"List the tokens; what they are is not kept."`
	Revoke tokensRevokeCmd `cmd:"" help:"Take tokens away; running servers refuse them from the next request on."`
}

func (c *tokensCmd) open(o *options, p process) (*web.TokenFile, error) {
	path, err := tokensPath(c.File, o, p)
	if err != nil {
		return nil, err
	}
	return web.NewTokenFile(path), nil
}

// tokensAddCmd makes a token.
type tokensAddCmd struct {
	Name    string        `arg:"" help:"Who or what it is for; the caller that it speaks for."`
	Scope   []string      `help:"read, deploy, approve or operate; repeatable." default:"deploy"`
	Expires time.Duration `help:"How long it is good for, e.g. 720h; 0: until it is revoked." default:"2160h"`
	Again   bool          `help:"The name has a token already, and this is another one of the same caller."`
	JSON    bool          `name:"json" help:"Print one JSON object."`
}

// Run makes it. Its labels are those of --label.
func (c *tokensAddCmd) Run(t *tokensCmd, o *options, p process) error {
	file, err := t.open(o, p)
	if err != nil {
		return err
	}
	lbl, err := labels(o)
	if err != nil {
		return refuse(err)
	}
	if c.Expires < 0 {
		return refuse(errors.New("--expires: a time that is still to come"))
	}
	now := now()
	token := web.Token{Name: c.Name, Labels: lbl}
	for _, s := range c.Scope {
		token.Scopes = append(token.Scopes, deploy.Scope(s))
	}
	if c.Expires > 0 {
		token.ExpiresAt = now.Add(c.Expires).UTC().Truncate(time.Second)
	}
	secret, made, err := file.Add(token, c.Again, now)
	if err != nil {
		return refuse(err)
	}
	if c.JSON {
		return printJSON(p, map[string]any{"id": made.ID, "name": made.Name, "token": secret.Reveal(), "scopes": made.Scopes, "expires_at": made.ExpiresAt})
	}
	fmt.Fprintf(p.stderr, "Token %s for %s, %s. It is shown this once:\n", made.ID, made.Name, until(made))
	_, err = fmt.Fprintln(p.stdout, secret.Reveal())
	return err
}

// tokensListCmd lists them.
type tokensListCmd struct {
	JSON bool `name:"json" help:"Print one JSON object."`
}

// Run lists names, scopes, labels and ends.
func (c *tokensListCmd) Run(t *tokensCmd, o *options, p process) error {
	file, err := t.open(o, p)
	if err != nil {
		return err
	}
	all, err := file.List()
	if err != nil {
		return err
	}
	if c.JSON {
		rows := []map[string]any{}
		for _, t := range all {
			row := map[string]any{"id": t.ID, "name": t.Name, "scopes": t.Scopes, "labels": t.Labels, "created_at": t.CreatedAt}
			if !t.ExpiresAt.IsZero() {
				row["expires_at"] = t.ExpiresAt
			}
			rows = append(rows, row)
		}
		return printJSON(p, map[string]any{"tokens": rows})
	}
	if len(all) == 0 {
		fmt.Fprintln(p.stdout, "There are no tokens.")
	}
	for _, t := range all {
		var lbl []string
		for _, k := range slices.Sorted(maps.Keys(t.Labels)) {
			lbl = append(lbl, k+"="+t.Labels[k])
		}
		fmt.Fprintf(p.stdout, "%s  %s  %s  %s  %s\n", t.ID, t.Name, join(t.Scopes), until(&t), strings.Join(lbl, " "))
	}
	return nil
}

func join(scopes []deploy.Scope) string {
	var out []string
	for _, s := range scopes {
		out = append(out, string(s))
	}
	return strings.Join(out, ",")
}

func until(t *web.Token) string {
	if t.ExpiresAt.IsZero() {
		return "until it is revoked"
	}
	return "until " + t.ExpiresAt.UTC().Format(time.RFC3339)
}

// tokensRevokeCmd takes tokens away.
type tokensRevokeCmd struct {
	NameOrID string `arg:"" name:"name-or-id" help:"All tokens of a name, or the one of an id."`
}

// Run takes them away.
func (c *tokensRevokeCmd) Run(t *tokensCmd, o *options, p process) error {
	file, err := t.open(o, p)
	if err != nil {
		return err
	}
	n, err := file.Revoke(c.NameOrID)
	if err != nil {
		return refuse(err)
	}
	_, err = fmt.Fprintf(p.stdout, "%d revoked\n", n)
	return err
}
