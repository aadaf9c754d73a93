package deploy

// Picture is what a store has of one session as of one moment, as far as it matters to
// how the session stands.
type Picture struct {
	Session Session
	// Newest: its principal has no newer session of its scope.
	Newest bool
	// Accounts are all of them, newest first, with their secrets.
	Accounts []Account
	// Deployments are the newest of each Worker on each account, newest first, without
	// those that serve nothing for good.
	Deployments []Deployment
	// Steps are all of them, oldest first; none where each of them is done or failed.
	Steps []Step
	// Claim is the newest, without the token of its page; nil: there is none.
	Claim *Claim
	// Foreign is what was found on its accounts that is not ours, the first first.
	Foreign []ForeignChange
}

// account is the newest one; nil: there is none.
func (p *Picture) account() *Account {
	if len(p.Accounts) == 0 {
		return nil
	}
	return &p.Accounts[0]
}
