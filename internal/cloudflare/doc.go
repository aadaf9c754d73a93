// Package cloudflare speaks to the API of Cloudflare's temporary accounts and to
// the edge on which their Workers answer: it is the real thing behind the ports
// deploy.Cloud, deploy.Tail and deploy.Edge. The same code talks to the sandbox
// when it is pointed there.
//
// Making an account is plain net/http, as no SDK knows it; everything with a
// token goes through the service packages of cloudflare-go, with explicit options
// only: nothing is ever read from the environment, so that a temporary deployment
// can't land in somebody's real account. Which calls may leave at all is a list
// (Calls), and the transport holds the client to it.
//
// It decides nothing about sessions, keeps nothing on disk and logs nothing; every
// failure is a *deploy.Error. Wire facts are from the wrangler-wire fact sheet
// (wrangler 4.164.0), cited by section.
package cloudflare
