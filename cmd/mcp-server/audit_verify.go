package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/hourglass-mcp/hourglass/internal/audit"
)

// auditVerifyCmd holds the log against itself and against what left the machine.
type auditVerifyCmd struct {
	Checkpoint []string `help:"A checkpoint that left the machine: the note itself, or a log of this server with its checkpoints; repeatable." placeholder:"FILE" sep:"none"`
	Key        string   `env:"-" help:"The public key, or a file with it. Default: that of this machine's own audit key, which somebody who was here could have replaced." placeholder:"KEY"`
	JSON       bool     `name:"json" help:"Print the report as one JSON object."`
}

// Run prints the report and exits 1 when anything is wrong.
func (c *auditVerifyCmd) Run(ctx context.Context, o *options, p process) error {
	var opt audit.Verification
	for _, path := range c.Checkpoint {
		file, err := os.ReadFile(path) //nolint:gosec // the user names it
		if err != nil {
			return refuse(fmt.Errorf("--checkpoint: %w", err))
		}
		found := audit.FindCheckpoints(file)
		if len(found) == 0 {
			return refuse(fmt.Errorf("--checkpoint %s: there is no checkpoint in it (a signed note, or lines of JSON with a \"checkpoint\")", path))
		}
		opt.Outside = append(opt.Outside, found...)
	}
	var err error
	if opt.Key, err = keyText(c.Key); err != nil {
		return err
	}
	log, done, err := openAudit(ctx, o, p)
	if err != nil {
		return err
	}
	report, err := log.Verify(ctx, opt)
	if err = errors.Join(err, done()); err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(p, report)
	} else {
		showReport(report, p)
	}
	if !report.OK && err == nil {
		err = &exitError{code: exitElse, quiet: true, cause: errors.New("the record is not whole")}
	}
	return err
}

func showReport(r *audit.Report, p process) {
	w := p.stdout
	for _, f := range r.Problems {
		fmt.Fprintf(w, "%-10s  %s\n", f.Kind, f.Detail)
	}
	if r.More > 0 {
		fmt.Fprintf(w, "and %d more\n", r.More)
	}
	verdict := "The record is whole"
	if !r.OK {
		verdict = "THE RECORD IS NOT WHOLE"
	}
	fmt.Fprintf(w, "%s: %d records, %d of them pruned by rule; %d checkpoints of its own and %d from outside.\n", verdict, r.Records, r.Pruned, r.Checkpoints, r.Outside)
	if r.Root != "" {
		fmt.Fprintf(w, "root %s\nkey  %s\n", r.Root, r.Key)
	}
	if r.Outside == 0 {
		fmt.Fprintln(w, "No checkpoint from outside was given: an end that was cut off with its checkpoints would not show. Give the server's kept log with --checkpoint.")
	}
}

// keyText is a key given as it is, or as a file.
func keyText(s string) (string, error) {
	if s == "" || strings.Count(s, "+") >= 2 {
		return s, nil
	}
	text, err := os.ReadFile(s) //nolint:gosec // the user names it
	if err != nil {
		return "", refuse(fmt.Errorf("--key is neither a public key (name+hash+key) nor a file with one: %w", err))
	}
	return strings.TrimSpace(string(text)), nil
}

// auditProveCmd writes a proof.
type auditProveCmd struct {
	Index int64  `arg:"" optional:"" default:"-1" help:"The record's index."`
	ActID string `name:"act" help:"In place of an index: the last record of this act." placeholder:"ID"`
	Out   string `help:"File to write. Default: standard output." placeholder:"FILE"`
}

// Run writes the proof file.
func (c *auditProveCmd) Run(ctx context.Context, o *options, p process) error {
	if (c.Index < 0) == (c.ActID == "") {
		return refuse(errors.New("name one record: by its index, or by --act ID"))
	}
	log, done, err := openAudit(ctx, o, p)
	if err != nil {
		return err
	}
	file, err := c.prove(ctx, log, p)
	if err = errors.Join(err, done()); err != nil {
		return err
	}
	if c.Out != "" {
		if err := os.WriteFile(c.Out, file, 0o600); err != nil {
			return fmt.Errorf("the proof's file: %w", err)
		}
		return nil
	}
	if _, err := p.stdout.Write(file); err != nil {
		return fmt.Errorf("printing the proof: %w", err)
	}
	return nil
}

func (c *auditProveCmd) prove(ctx context.Context, log *audit.Log, p process) ([]byte, error) {
	if c.ActID != "" {
		found, err := log.List(ctx, audit.Filter{ActID: c.ActID})
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, refuse(fmt.Errorf("there is no record of an act %q: `mcp-server audit list` shows what there is", c.ActID))
		}
		c.Index = found[len(found)-1].Index
		for _, e := range found[:len(found)-1] {
			fmt.Fprintf(p.stderr, "record %d is of the same act (%s): prove it by its index\n", e.Index, printable(string(e.Event.Phase)))
		}
	}
	proof, err := log.Prove(ctx, c.Index)
	if err != nil {
		return nil, err
	}
	return proof.Encode()
}

// auditCheckProofCmd checks a proof with nothing but the public key.
type auditCheckProofCmd struct {
	File string `arg:"" help:"The proof file." type:"existingfile"`
	Key  string `env:"-" required:"" help:"The public key, or a file with it, from somebody you trust: not from who gave you the proof." placeholder:"KEY"`
	JSON bool   `name:"json" help:"Print the result as one JSON object."`
}

// Run prints the record that was proven.
func (c *auditCheckProofCmd) Run(p process) error {
	key, err := keyText(c.Key)
	if err != nil {
		return err
	}
	file, err := os.ReadFile(c.File) //nolint:gosec // the user names it
	if err != nil {
		return fmt.Errorf("the proof's file: %w", err)
	}
	proven, err := audit.CheckProof(file, key)
	if err != nil {
		return &exitError{code: exitElse, cause: err}
	}
	if c.JSON {
		return printJSON(p, proven)
	}
	fmt.Fprintf(p.stdout, "The proof holds: this is record %d of the %d that the checkpoint signs.\n%s\n", proven.Index, proven.Size, indent(proven.Record))
	return nil
}
