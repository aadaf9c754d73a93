// Package deploy is the ground floor of Hourglass: the nouns (Source, Artifact,
// Account, Session, Deployment, Claim), the rules that hold for them, the ports
// (interfaces) through which the Service reaches the outside world, and the one
// path that a deployment takes.
//
// It knows the standard library only. How code is bundled, where sessions are
// kept, how Cloudflare is spoken to and what an agent or a human sees of all
// this is the business of the rooms above.
package deploy
