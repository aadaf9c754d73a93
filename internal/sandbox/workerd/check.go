package workerd

import "context"

// Check starts the Workers of cfg once, in a throw-away process without network, and
// ends it again: about 30 ms (workerd fact sheet, section 1). A Worker that does not
// start is a *StartError.
func Check(ctx context.Context, cfg Config) error {
	cfg.NoNetwork, cfg.OnTail = true, nil
	p, err := Start(ctx, cfg)
	if err != nil {
		return err
	}
	p.kill(ErrStopped)
	<-p.done
	p.Stop(ctx)
	return nil
}
