package web

import "github.com/hourglass-mcp/hourglass/internal/deploy"

// sessionBody is the page of one session.
type sessionBody struct {
	sessionRow
	Kept, NotKept int
	Older         bool // there are more lines than are shown
	Lines         []logRow
}

// logRow is one line that a Worker said.
type logRow struct{ At, Worker, Kind, Text string }

// said takes the newest of what the Workers said. It was stripped of secrets when it was
// kept; what became known since is stripped here.
func (b *sessionBody) said(logs *deploy.WorkerLogs, redactor *deploy.Redactor) {
	b.Kept, b.NotKept = logs.Tally.Lines, logs.Tally.Dropped
	lines := logs.Lines
	if b.Older = len(lines) > maxShown; b.Older {
		lines = lines[len(lines)-maxShown:]
	}
	for i := range lines {
		l := &lines[i]
		b.Lines = append(b.Lines, logRow{
			At: l.At.UTC().Format("2006-01-02 15:04:05.000"), Worker: label(l.Worker), Kind: label(l.Kind), Text: clean(redactor.Redact(l.Text)),
		})
	}
}
