// Package sandbox is our own small Cloudflare: the part of its API that temporary
// accounts use, the real Workers runtime behind it, an edge that serves what was
// deployed, and a management port for tests. It listens on loopback only and keeps
// everything in memory.
//
// It must be good enough that the real wrangler deploys to it unchanged, which our
// own client's success can't prove. So it shares no code with that client but the
// proof of work, whose test vectors are computed elsewhere; shapes and codes are
// those of the wrangler-wire fact sheet.
package sandbox
