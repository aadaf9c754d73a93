package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/policy"
)

// loadPolicy compiles the policy that the options name; without one it is the built-in
// default alone.
func loadPolicy(o *options) (*policy.Policy, error) {
	if o.Policy == "" {
		return policy.New(policy.Config{})
	}
	return readPolicy(o.Policy)
}

func readPolicy(path string) (*policy.Policy, error) {
	source, err := readNamed(path, "policy")
	if err != nil {
		return nil, err
	}
	return policy.New(policy.Config{Name: filepath.Base(path), Source: source})
}

// readNamed reads a file that the operator names.
func readNamed(path, what string) ([]byte, error) {
	source, err := os.ReadFile(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, deploy.Errorf(deploy.CodeInvalidArgument, "Name a file that this user may read.", "the %s can't be read: %w", what, err)
	}
	if source == nil {
		source = []byte{} // an empty file is a file, which is refused
	}
	return source, nil
}

// policyCmd helps to write a policy.
type policyCmd struct {
	Check       policyCheckCmd   `cmd:"" help:"Tell whether a policy file is right, with line and column of each mistake."`
	Test        policyTestCmd    `cmd:"" help:"Ask a policy about a file of cases, and tell those that come out otherwise."`
	ShowDefault policyDefaultCmd `cmd:"" help:"Print the built-in policy."`
}

type policyCheckCmd struct {
	File string `arg:"" help:"The policy file." placeholder:"FILE"`
}

// Run exits 2 when the file can't be used.
func (c *policyCheckCmd) Run(p process) error {
	pol, err := readPolicy(c.File)
	if err != nil {
		return refuse(err)
	}
	inForce, replaced := pol.Rules()
	fmt.Fprintf(p.stdout, "%s is right. Rules in force, with the built-in ones: %s.\n", c.File, strings.Join(inForce, ", "))
	if len(replaced) > 0 {
		fmt.Fprintf(p.stdout, "Built-in rules that it replaces: %s.\n", strings.Join(replaced, ", "))
	}
	if n := len(pol.AllowedFindings()); n > 0 {
		fmt.Fprintf(p.stdout, "Findings of the secret scan that it allows: %d.\n", n)
	}
	return nil
}

type policyTestCmd struct {
	File  string `arg:"" help:"The policy file." placeholder:"FILE"`
	Cases string `arg:"" help:"The cases: a list of {name, act, facts, want: {verdict, rules, require}}." placeholder:"CASES"`
}

// Run exits 1 when a case comes out otherwise, and 2 when a file can't be used.
func (c *policyTestCmd) Run(ctx context.Context, p process) error {
	pol, err := readPolicy(c.File)
	if err != nil {
		return refuse(err)
	}
	source, err := readNamed(c.Cases, "file of cases")
	if err != nil {
		return refuse(err)
	}
	cases, err := policy.Cases(filepath.Base(c.Cases), source)
	if err != nil {
		return refuse(err)
	}
	failed := pol.Try(ctx, cases)
	for _, f := range failed {
		fmt.Fprintln(p.stdout, f)
	}
	fmt.Fprintf(p.stdout, "%d of %d cases came out as wanted.\n", len(cases)-len(failed), len(cases))
	if len(failed) > 0 {
		return &exitError{code: exitElse, quiet: true, cause: errors.New("cases came out otherwise")}
	}
	return nil
}

type policyDefaultCmd struct{}

// Run prints the built-in policy as it stands in the code.
func (policyDefaultCmd) Run(p process) error {
	_, err := p.stdout.Write(policy.Default())
	return err
}
