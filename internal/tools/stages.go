package tools

import (
	"context"
	"sync"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// stages tells the client how far a call is, when it sent a progress token. Telling
// never holds up the work: a goroutine sends, and is waited for before the call's result
// goes out, because progress after a result is against the protocol. A client that does
// not read loses notes, not deployments.
type stages struct {
	token any
	last  float64
	notes chan map[string]any
	sent  sync.WaitGroup
}

// notifier is a session that sends a notification before it returns. mcp-go's own way
// is a queue that a response may overtake.
type notifier interface {
	Notify(method string, params map[string]any) error
}

func newStages(ctx context.Context, meta *mcp.Meta) *stages {
	if meta == nil || meta.ProgressToken == nil {
		return nil
	}
	s := &stages{token: meta.ProgressToken, notes: make(chan map[string]any, 32)}
	send := sender(ctx)
	s.sent.Go(func() {
		for note := range s.notes {
			if send(note) != nil {
				return // a client that is gone; the call itself ends by its context
			}
		}
	})
	return s
}

func sender(ctx context.Context) func(map[string]any) error {
	const method = string(mcp.MethodNotificationProgress)
	if n, ok := server.ClientSessionFromContext(ctx).(notifier); ok {
		return func(p map[string]any) error { return n.Notify(method, p) }
	}
	srv := server.ServerFromContext(ctx)
	return func(p map[string]any) error { return srv.SendNotificationToClient(ctx, method, p) }
}

// stageTexts is what a person reads, in the order of the stages.
func stageTexts() []struct {
	stage deploy.Stage
	text  string
} {
	return []struct {
		stage deploy.Stage
		text  string
	}{
		{deploy.StageBundle, "Bundling the Worker"},
		{deploy.StagePreflight, "Checking it against the limits of temporary accounts"},
		{deploy.StageChallenge, "Asking Cloudflare for a challenge"},
		{deploy.StageProof, "Solving the proof of work"},
		{deploy.StageAccount, "Making a temporary account"},
		{deploy.StageResources, "Finding or making its resources"},
		{deploy.StageMigrate, "Applying database migrations"},
		{deploy.StageUpload, "Uploading the Worker"},
		{deploy.StageRoute, "Enabling its public URL"},
		{deploy.StageTriggers, "Setting up cron triggers and queue consumers"},
		{deploy.StageCheck, "Waiting until it serves, and reading what it answers"},
	}
}

// reached tells the client of a stage. Numbers only rise, also when a stage comes again
// because the account turned out to be over.
func (s *stages) reached(stage deploy.Stage) {
	if s == nil {
		return
	}
	texts := stageTexts()
	note := map[string]any{"progressToken": s.token, "total": len(texts), "message": string(stage)}
	at := s.last
	for i, t := range texts {
		if t.stage == stage {
			at, note["message"] = float64(i+1), t.text
		}
	}
	if at <= s.last {
		at = s.last + 0.01
	}
	s.last = at
	note["progress"] = at
	select {
	case s.notes <- note:
	default:
	}
}

// close waits until everything told is sent. Nothing is told after it.
func (s *stages) close() {
	if s == nil {
		return
	}
	close(s.notes)
	s.sent.Wait()
}
