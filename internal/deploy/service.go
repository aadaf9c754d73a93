package deploy

import (
	"context"
	"errors"
	"time"
)

// Config is what the Service needs.
type Config struct {
	Bundler Bundler
	// Booter tries an artifact in the runtime before an account is made for it; nil: not tried.
	Booter Booter
	Cloud  Cloud
	Edge   Edge
	Store  Store
	// Pages is where humans decide; nil: request_claim refuses.
	Pages    Pages
	Redactor *Redactor
	// ReadOnly refuses everything that changes something outside.
	ReadOnly bool
	// TermsAccepted: the operator accepted Cloudflare's terms for everybody (--accept-terms).
	TermsAccepted bool
	// Margin is how much life an account must have left to be used. Default 1 minute.
	Margin time.Duration
	// ServeWait bounds the wait until a deployed version serves. Default 25 s: a new
	// route was seen to take 12-15 s on the live API (peers fact sheet, 2.2).
	ServeWait time.Duration
	// ConfirmWait bounds the further wait for evidence of the version once something
	// serves and nothing speaks against it. Default 2 s.
	ConfirmWait time.Duration
	Now         func() time.Time
}

// Service is the one road that every door and command takes.
type Service struct {
	cfg   Config
	locks keyedLocks
}

// New makes a Service.
func New(cfg Config) (*Service, error) {
	if cfg.Bundler == nil || cfg.Cloud == nil || cfg.Edge == nil || cfg.Store == nil {
		return nil, errors.New("deploy.New: Bundler, Cloud, Edge and Store are needed")
	}
	if cfg.Redactor == nil {
		cfg.Redactor = NewRedactor()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	setDefault(&cfg.Margin, time.Minute)
	setDefault(&cfg.ServeWait, 25*time.Second)
	setDefault(&cfg.ConfirmWait, 2*time.Second)
	return &Service{cfg: cfg}, nil
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}

// Redactor is the one that guards every way out.
func (s *Service) Redactor() *Redactor { return s.cfg.Redactor }

// Bundle turns a source into an artifact and keeps it for the caller.
func (s *Service) Bundle(ctx context.Context, c Caller, src Source) (*BundleResult, error) {
	return nil, errors.ErrUnsupported
}

// Deploy puts a Worker live on the caller's temporary account and reads what it serves.
func (s *Service) Deploy(ctx context.Context, c Caller, req DeployRequest) (*DeployResult, error) {
	return nil, errors.ErrUnsupported
}

// Status tells how the caller's sessions stand; one of them where req names it.
func (s *Service) Status(ctx context.Context, c Caller, req StatusRequest) (*StatusResult, error) {
	return nil, errors.ErrUnsupported
}

// RequestClaim asks a human to keep the session's account. It returns at once.
func (s *Service) RequestClaim(ctx context.Context, c Caller, req ClaimRequest) (*ClaimResult, error) {
	return nil, errors.ErrUnsupported
}

// ClaimView is what the human is shown under a page token; CodeSessionNotFound.
func (s *Service) ClaimView(ctx context.Context, token string) (*ClaimView, error) {
	return nil, errors.ErrUnsupported
}

// DecideClaim records the human's decision, once: a second one is CodeSessionClosed,
// one that came too late CodeSessionExpired. Browser binds an approval to the
// browser that gave it.
func (s *Service) DecideClaim(ctx context.Context, token string, approve bool, browser string) (*ClaimView, error) {
	return nil, errors.ErrUnsupported
}

// ClaimLink is Cloudflare's claim link, which owns the account: given only after the
// approval, only to the browser that approved, and only until the link expires.
func (s *Service) ClaimLink(ctx context.Context, token, browser string) (Secret, error) {
	return "", errors.ErrUnsupported
}

// Terms is the text that a human accepts before a temporary account is made.
func (s *Service) Terms() string { return termsText }

// AcceptTerms records that a human accepted them; by is "setup", "flag" or "elicitation".
func (s *Service) AcceptTerms(ctx context.Context, c Caller, by string) error {
	return errors.ErrUnsupported
}
