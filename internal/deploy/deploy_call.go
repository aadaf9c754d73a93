package deploy

import (
	"context"
	"net/url"
	"strings"
)

// Deploy puts a Worker live on the caller's temporary account and reads what it
// serves. Nothing is spent before bundle and preflight are through. A call with an
// idempotency key is done once; repeated, also while the first still runs, it gives
// the first one's result with a fresh countdown.
func (s *Service) Deploy(ctx context.Context, c Caller, req DeployRequest) (*DeployResult, error) {
	if err := s.validate(req); err != nil {
		return nil, err
	}
	if req.IdempotencyKey != "" {
		req.IdempotencyKey = s.cfg.Redactor.Redact(req.IdempotencyKey) // it is kept
		return s.deployKeyed(ctx, c, req)
	}
	return s.deploy(ctx, c, req, nil)
}

func (s *Service) validate(req DeployRequest) error {
	if s.cfg.ReadOnly {
		return errReadOnly()
	}
	if req.BundleID != "" && !req.Source.Empty() {
		return Errorf(CodeTwoSources, "Give exactly one of project_dir, files and bundle_id.",
			"both bundle_id and a source were given")
	}
	if req.BundleID == "" && req.Source.Empty() {
		return errNoSource()
	}
	if e := req.Expect; e != nil {
		if e.Path != "" && !isPath(e.Path) {
			return Errorf(CodeInvalidArgument, "Begin expect.path with one slash, e.g. /health or /items?limit=3.",
				"expect.path %q is not a path of the Worker", cut(e.Path, 80))
		}
		if e.Status != 0 && (e.Status < 100 || e.Status > 599) {
			return Errorf(CodeInvalidArgument, "Give an HTTP status such as 200.", "expect.status %d is not an HTTP status", e.Status)
		}
	}
	return nil
}

// isPath tells whether the edge can be asked for p: else only the check, after
// everything is spent, would find out.
func isPath(p string) bool {
	_, err := url.ParseRequestURI(p)
	return err == nil && p[0] == '/' && !strings.HasPrefix(p, "//") && len(p) <= 8192
}

func errReadOnly() *Error {
	return &Error{
		Code: CodeReadOnly, Message: "this server is read-only: its operator allows bundle and status",
		Next: "Tell the user that deploying needs a server that runs without --read-only.",
	}
}
