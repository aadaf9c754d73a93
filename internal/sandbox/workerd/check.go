package workerd

import "context"

// Check starts the Workers of cfg once, in a throw-away process without network, and
// ends it again: about 30 ms (workerd fact sheet, section 1). A Worker that does not
// start is a *StartError.
func Check(ctx context.Context, cfg Config) error {
	p, err := Start(ctx, throwAway(cfg))
	if err != nil {
		return err
	}
	p.discard()
	return nil
}

// throwAway takes from a configuration what a process that serves nobody doesn't need.
func throwAway(cfg Config) Config {
	cfg.NoNetwork, cfg.AllowPrivate, cfg.Outbound, cfg.OnTail, cfg.OnLog = true, false, nil, nil, nil
	return cfg
}

// discard ends a process at once and waits for it.
func (p *Process) discard() {
	p.kill(ErrStopped)
	<-p.done
	p.Stop(context.Background())
}
