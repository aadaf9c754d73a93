package deploy

import (
	"context"
	"time"
)

// How often a status looks at what a Worker serves.
const (
	probeFresh = 10 * time.Second // how old a probe may be to be shown again
	probeSoon  = time.Second      // the same, while the Worker does not serve
	probeLimit = 3 * time.Second  // how long one probe of a status may take
)

// probeDue tells whether the last look at what a deployment serves is too old to be shown
// again: 10 s, or 1 s while it does not serve. A look from the future was made by another clock.
func (s *Service) probeDue(d *Deployment) bool {
	if d.Host == "" {
		return false
	}
	if d.Check == nil {
		return true
	}
	most := probeFresh
	if d.Serving != ServingYes {
		most = probeSoon
	}
	age := s.cfg.Now().Sub(d.Check.ProbedAt)
	return age < 0 || age >= most
}

// probeOnce looks at what a deployment serves, unless somebody just did. One look at a
// time: who comes second reads what the first saw.
func (s *Service) probeOnce(ctx context.Context, d Deployment) (Deployment, error) {
	unlock, err := s.locks.lock(ctx, "probe\x00"+d.ID)
	if err != nil {
		return d, err
	}
	defer unlock()
	if d, err = s.deployment(ctx, d); err != nil {
		return d, err
	}
	if !s.probeDue(&d) {
		return d, nil
	}
	if d.URL, err = s.cfg.Edge.URL(ctx, d.Host); err != nil {
		return d, err
	}
	limited, stop := context.WithTimeout(ctx, probeLimit)
	defer stop()
	check := Check{Path: "/", Version: VersionUnconfirmed, ProbedAt: s.cfg.Now().UTC()}
	if d.Check != nil {
		check.Path, check.Version, check.Evidence = d.Check.Path, d.Check.Version, d.Check.Evidence
	}
	resp, err := s.cfg.Edge.Fetch(limited, d.Host, check.Path, nil)
	switch {
	case ctx.Err() != nil:
		return d, ctx.Err()
	case err != nil:
		check.Error = "no answer: " + s.cfg.Redactor.Redact(AsError(err).Message)
	default:
		check.Status, check.OK = resp.Status, resp.Status < 400
		check.LatencyMS = float64(resp.Latency.Microseconds()) / 1000
		check.BodyExcerpt = s.excerpt(resp)
	}
	return s.saveProbe(context.WithoutCancel(ctx), d, check)
}

// saveProbe keeps what a status saw, on top of what a deployment's own check may have
// written down meanwhile.
func (s *Service) saveProbe(ctx context.Context, d Deployment, check Check) (Deployment, error) {
	unlock, err := s.locks.lock(ctx, "row\x00"+d.ID)
	if err != nil {
		return d, err
	}
	defer unlock()
	again, err := s.deployment(ctx, d)
	if err != nil {
		return d, err
	}
	if again.Check != nil && again.Check.ProbedAt.After(check.ProbedAt) {
		return again, nil
	}
	if again.confirmed() {
		check.Version, check.Evidence = again.Check.Version, again.Check.Evidence
	}
	if check.Status != 0 && check.OK {
		again.Serving = ServingYes
	}
	again.URL, again.Check = d.URL, &check
	return again, s.cfg.Store.SaveDeployment(ctx, again)
}

// deployment reads d again.
func (s *Service) deployment(ctx context.Context, d Deployment) (Deployment, error) {
	deps, err := s.cfg.Store.Deployments(ctx, d.SessionID)
	if err != nil {
		return d, err
	}
	for _, again := range deps {
		if again.ID == d.ID {
			return again, nil
		}
	}
	return d, nil
}
