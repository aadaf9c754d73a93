package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/rs/zerolog"

	"github.com/hourglass-mcp/hourglass/internal/audit"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/session"
)

// auditCmd is for whoever reads the record of acts.
type auditCmd struct {
	List       auditListCmd       `cmd:"" help:"Show records, the newest last."`
	Export     auditExportCmd     `cmd:"" help:"Write records as JSON Lines (docs/audit.md)."`
	Verify     auditVerifyCmd     `cmd:"" help:"Compute everything anew and say what was changed, if anything was."`
	Prove      auditProveCmd      `cmd:"" help:"Write a proof of one record that others check with the public key alone."`
	CheckProof auditCheckProofCmd `cmd:"" name:"check-proof" help:"Check a proof file. Needs no store."`
	Key        auditKeyCmd        `cmd:"" help:"Print the public key."`
	Prune      auditPruneCmd      `cmd:"" help:"Drop the content of records that were kept long enough (--keep-audit)."`
}

// auditKeyVar holds the key that signs the record of acts, as an audit.key file does. It
// is no flag: other users of the machine see a process's arguments.
const auditKeyVar = "HOURGLASS_AUDIT_KEY"

// openAudit opens the log of the store that the options name, for a command that does
// nothing else.
func openAudit(ctx context.Context, o *options, p process) (*audit.Log, func() error, error) {
	redactor := deploy.NewRedactor()
	store, err := openStore(ctx, o, p, redactor)
	if err != nil {
		return nil, nil, err
	}
	log, err := newAudit(o, p, store, redactor, nil)
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	return log, store.Close, nil
}

// newAudit builds the record of acts in the store's database. checkpoint carries what
// is signed off this machine; see logCheckpoints.
func newAudit(o *options, p process, store *session.Store, redactor *deploy.Redactor, checkpoint func([]byte, int64)) (*audit.Log, error) {
	keep, err := audit.ParseRetention(o.KeepAudit)
	if err != nil {
		return nil, fmt.Errorf("--keep-audit %w", err)
	}
	cfg := audit.Config{
		Database: func(ctx context.Context) (*sql.DB, audit.Dialect, error) {
			db, kind, err := store.DB(ctx)
			return db, audit.Dialect(kind), err
		},
		Keep: keep, Checkpoint: checkpoint, Now: now,
	}
	if cfg.Key, _ = p.env(auditKeyVar); cfg.Key != "" {
		redactor.Add(cfg.Key)
		return audit.New(cfg)
	}
	dir, err := stateDir(o, p)
	if err != nil {
		return nil, err
	}
	cfg.KeyFile = filepath.Join(dir, "audit.key")
	return audit.New(cfg)
}

// logCheckpoints writes every checkpoint as a line of the log: who keeps the log
// elsewhere can show with it that the record's end was cut off (audit verify
// --checkpoint). The line is written at every level.
func logCheckpoints(log zerolog.Logger) func(note []byte, size int64) {
	return func(note []byte, size int64) {
		log.Log().Int64("size", size).Str("checkpoint", string(note)).Msg("the record of acts grew")
	}
}

// auditFilter narrows list and export.
type auditFilter struct {
	Session   string `help:"Of this session." placeholder:"ID"`
	Principal string `help:"Of this caller." placeholder:"NAME"`
	Labelled  string `help:"With this trusted label." placeholder:"K=V"`
	Act       string `help:"Of this act or kind of notice: deploy, teardown, expired, …" placeholder:"ACT"`
	ActID     string `name:"act-id" help:"The records of one act." placeholder:"ID"`
	Outcome   string `help:"With this outcome: ok, or an error's code." placeholder:"CODE"`
	Worker    string `help:"Of this Worker." placeholder:"NAME"`
	Digest    string `help:"Of the artifact with this digest." placeholder:"SHA256"`
	URL       string `name:"url" help:"Of what answers there." placeholder:"URL"`
	Since     string `help:"From this moment: RFC 3339, a date, or an age such as 2h or 7d." placeholder:"WHEN"`
	Until     string `help:"Before this moment." placeholder:"WHEN"`
}

func (f auditFilter) filter(now time.Time) (audit.Filter, error) {
	out := audit.Filter{
		Session: f.Session, Principal: f.Principal, Label: f.Labelled, Act: f.Act, ActID: f.ActID, Outcome: f.Outcome,
		Worker: f.Worker, Digest: f.Digest, URL: f.URL,
	}
	if f.Labelled != "" && !strings.Contains(f.Labelled, "=") {
		return out, refuse(errors.New("--labelled is a label with its value: key=value"))
	}
	var err error
	if out.Since, err = when(f.Since, now); err != nil {
		return out, refuse(fmt.Errorf("--since %w", err))
	}
	if out.Until, err = when(f.Until, now); err != nil {
		return out, refuse(fmt.Errorf("--until %w", err))
	}
	return out, nil
}

// when reads a moment: RFC 3339, a date (UTC), or an age.
func when(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	age, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if age, err = time.ParseDuration(days + "h"); err == nil {
			age *= 24
		}
	}
	if err != nil || age < 0 {
		return time.Time{}, fmt.Errorf("%q: a moment is 2026-11-24T12:00:00Z, 2026-11-24, or an age such as 2h or 7d", text)
	}
	return now.Add(-age), nil
}

// auditListCmd shows records.
type auditListCmd struct {
	auditFilter
	Limit int  `help:"The newest so many; 0: all." default:"50"`
	JSON  bool `name:"json" help:"Print JSON Lines, as export does."`
}

// Run prints a line a record, the newest last.
func (c *auditListCmd) Run(ctx context.Context, o *options, p process) error {
	log, done, err := openAudit(ctx, o, p)
	if err != nil {
		return err
	}
	return errors.Join(c.list(ctx, log, p), done())
}

func (c *auditListCmd) list(ctx context.Context, log *audit.Log, p process) error {
	filter, err := c.filter(now())
	if err != nil {
		return err
	}
	filter.Newest, filter.Limit = true, c.Limit
	all, err := log.List(ctx, filter)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	for i := range all {
		e := &all[len(all)-1-i]
		if c.JSON {
			if _, err := fmt.Fprintf(p.stdout, "%s\n", e.Line()); err != nil {
				return fmt.Errorf("printing the list: %w", err)
			}
			continue
		}
		fmt.Fprintln(w, listLine(e))
	}
	if len(all) == 0 && !c.JSON {
		fmt.Fprintln(p.stderr, "No record matches.")
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("printing the list: %w", err)
	}
	return nil
}

func listLine(e *audit.Entry) string {
	if e.Body == nil {
		return fmt.Sprintf("%d\tpruned at %s", e.Index, e.PrunedAt.Format(time.RFC3339))
	}
	v := &e.Event
	what := stringOr(v.URL, v.Worker, v.AccountName, v.Detail)
	cells := []string{fmt.Sprint(e.Index), v.At.UTC().Format(time.RFC3339), string(v.Phase), v.Act, stringOr(v.Outcome, string(v.Verdict)), v.Principal, v.SessionID, what}
	for i, s := range cells {
		cells[i] = printable(s)
	}
	return strings.Join(cells, "\t")
}

// printable is text of outsiders for a terminal: what could steer it is shown as "·".
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '·'
	}, s)
}

// auditExportCmd writes records.
type auditExportCmd struct {
	auditFilter
	Out string `help:"File to write. Default: standard output." placeholder:"FILE"`
}

// Run writes one JSON object a line.
func (c *auditExportCmd) Run(ctx context.Context, o *options, p process) error {
	filter, err := c.filter(now())
	if err != nil {
		return err
	}
	log, done, err := openAudit(ctx, o, p)
	if err != nil {
		return err
	}
	if c.Out == "" {
		return errors.Join(log.Export(ctx, filter, p.stdout), done())
	}
	f, err := os.OpenFile(c.Out, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) //nolint:gosec // the user names it
	if err != nil {
		return errors.Join(fmt.Errorf("the export's file: %w", err), done())
	}
	return errors.Join(log.Export(ctx, filter, f), f.Sync(), f.Close(), done())
}

// auditKeyCmd prints the public key.
type auditKeyCmd struct{}

// Run prints it; the key is made when there is none.
func (auditKeyCmd) Run(ctx context.Context, o *options, p process) error {
	log, done, err := openAudit(ctx, o, p)
	if err != nil {
		return err
	}
	key, err := log.PublicKey()
	if err == nil {
		fmt.Fprintln(p.stdout, key)
	}
	return errors.Join(err, done())
}

// auditPruneCmd applies --keep-audit now.
type auditPruneCmd struct {
	JSON bool `name:"json" help:"Print the result as one JSON object."`
}

// Run tells how many records were pruned.
func (c *auditPruneCmd) Run(ctx context.Context, o *options, p process) error {
	log, done, err := openAudit(ctx, o, p)
	if err != nil {
		return err
	}
	n, err := log.Prune(ctx)
	if err = errors.Join(err, done()); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(p, map[string]any{"pruned": n})
	}
	fmt.Fprintf(p.stdout, "The content of %d records was dropped; their hashes stay.\n", n)
	return nil
}
