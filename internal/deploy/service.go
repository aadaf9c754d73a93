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
	// Sealer seals claim links the moment the API gives them; nil: the store keeps them.
	Sealer ClaimSealer
	// ReadOnly refuses everything that changes something outside.
	ReadOnly bool
	// TermsAccepted: the operator accepted Cloudflare's terms for everybody (--accept-terms).
	TermsAccepted bool
	// Secrets gives the value of a variable that the operator allows secret bindings to
	// name; allowed tells whether it is on that list. nil: none is.
	Secrets func(name string) (value string, allowed bool)
	// Policy decides about acts; nil: everything is allowed but keeping, which a human decides.
	Policy Policy
	// Scanner looks for secrets in what would become public; nil: nobody does.
	Scanner Scanner
	// Record is the audit log; nil: nothing is recorded.
	Record Record
	// Notifier tells people elsewhere; nil: nobody is told.
	Notifier Notifier
	// Margin is how much life an account must have left to be used. Default 1 minute.
	Margin time.Duration
	// ServeWait bounds the wait until a deployed version serves. Default 25 s: a new
	// route was seen to take 12-15 s on the live API (peers fact sheet, 2.2).
	ServeWait time.Duration
	// ConfirmWait bounds the further wait for evidence of the version once something
	// serves and nothing speaks against it. Default 2 s.
	ConfirmWait time.Duration
	// TurnWait bounds the wait for another call that works on the same session. Default
	// 45 s: longer than a lease outlives its process, shorter than clients wait.
	TurnWait time.Duration
	// MaxAccounts is how many accounts one principal may make in an hour, MaxAccountsInAll
	// how many all may; 0: as many as the API gives.
	MaxAccounts, MaxAccountsInAll int
	// Limits bound the other things that callers use up.
	Limits CallLimits
	// ClaimLink gives the address, behind a login, at which a claim is decided; nil: there is none.
	ClaimLink func(claimID string) string
	// ApprovalLink gives the same for an act that a policy asks about; nil: there is none.
	ApprovalLink func(approvalID string) string
	// FourEyes and Channels are what a yes has to be, as in YesRule.
	FourEyes bool
	Channels []string
	// Logs says whether what Workers say is kept with their session.
	Logs LogConfig
	Now  func() time.Time
}

// Service is the one road that every door and command takes.
type Service struct {
	cfg     Config
	bundles *turnstile
	bytes   *hourly
	locks   keyedLocks
	clock   clockAsk
	sights  sights
	watches watches
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
	setDefault(&cfg.TurnWait, 45*time.Second)
	cfg.Logs.setDefaults()
	return &Service{
		cfg: cfg, bundles: newTurnstile(cfg.Limits.BundlesInAll, cfg.Limits.Bundles),
		bytes: newHourly(cfg.Limits.SourceBytes, cfg.Limits.SourceBytesInAll, cfg.Now),
	}, nil
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}

// Redactor is the one that guards every way out.
func (s *Service) Redactor() *Redactor { return s.cfg.Redactor }

// Terms is the text that a human accepts before a temporary account is made.
func (s *Service) Terms() string { return termsText }

// AcceptTerms records that a human accepted them; by is "setup", "flag" or "elicitation".
func (s *Service) AcceptTerms(ctx context.Context, c Caller, by string) error {
	err := s.cfg.Store.AcceptTerms(ctx, Acceptance{Principal: c.Principal, By: by, Text: termsText, At: s.cfg.Now()})
	if err != nil {
		return err
	}
	return s.notice(ctx, NoticeTermsAccepted, Event{Principal: c.Principal, Client: c.Client, Door: c.Door, Data: map[string]string{"by": by}})
}

// Bundle turns a source into an artifact and keeps it for the caller.
func (s *Service) Bundle(ctx context.Context, c Caller, src Source) (*BundleResult, error) {
	if src.Empty() {
		return nil, errNoSource()
	}
	a, err := s.bundle(ctx, c.Principal, src)
	if err != nil {
		return nil, err
	}
	if err := s.cfg.Store.SaveArtifact(ctx, c.Principal, a); err != nil {
		return nil, err
	}
	return &BundleResult{BundleID: a.BundleID(), Artifact: a}, nil
}

func errNoSource() *Error {
	return &Error{
		Code: CodeNoSource, Message: "there is nothing to bundle: neither project_dir nor files was given",
		Next: "Call again with files (a list of {path, content}) or project_dir.",
	}
}
