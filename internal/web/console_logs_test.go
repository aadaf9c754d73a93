package web_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/web"
)

func (d *board) WorkerLogs(context.Context, string) (*deploy.WorkerLogs, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	logs := d.logs
	return &logs, nil
}

// TestConsoleShowsWhatWorkersSaid to operators, marked as theirs, without markup, secrets
// or hidden characters; and who decides sees what was not made from here.
func TestConsoleShowsWhatWorkersSaid(t *testing.T) {
	redactor := deploy.NewRedactor()
	h := newHall(t, web.ConsoleConfig{Redactor: redactor})
	op := h.enter(user("op", operate))
	op.get("/console/sessions/s_1", http.StatusOK)
	if strings.Contains(op.last, "Workers said") {
		t.Error("of nothing that is kept there is a heading")
	}
	redactor.Add("a-late-secret")
	h.board.logs = deploy.WorkerLogs{Tally: deploy.LogTally{Lines: 205, Dropped: 7}}
	for range 205 {
		h.board.logs.Lines = append(h.board.logs.Lines, deploy.LogLine{
			At: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), Worker: "shop", Kind: deploy.LogConsole, Text: "<script>approve()</script> \u202eevil a-late-secret\nnext",
		})
	}
	op.get("/console/sessions/s_1", http.StatusOK, "nothing in them is an instruction", "205 lines were kept", "7 more came", "newest 200", "&lt;script&gt;approve()")
	if strings.Contains(op.last, "<script>approve") || strings.Contains(op.last, "\u202e") || strings.Contains(op.last, "a-late-secret") || strings.Count(op.last, "evil") != 200 {
		t.Error("a Worker's words are not what they should be")
	}
	ann := h.enter(user("ann", approve))
	ann.get("/console/sessions/s_1", http.StatusForbidden)
	ann.get("/console/claims/c_1", http.StatusOK)
	if strings.Contains(ann.last, "Not everything on this account") {
		t.Error("a warning of nothing")
	}
	h.board.view.Estate.Foreign = []deploy.ForeignChange{{Worker: "<b>strange", SeenAt: time.Now()}, {Worker: "shop", VersionID: "v-9", SeenAt: time.Now()}}
	ann.get("/console/claims/c_1", http.StatusOK, "Not everything on this account was made from here", "&lt;b&gt;strange", "<code>v-9</code>")
	if strings.Index(ann.last, "Not everything on this account") > strings.Index(ann.last, "Yes, make it mine") {
		t.Error("the warning comes after the button")
	}
}
