// Package workerd finds, starts, watches and ends the real Workers runtime. One
// process is one account: a loop in one Worker blocks every Worker of its process
// and a heap overflow ends it (workerd fact sheet, section 4), so accounts never
// share one.
//
// What an account is, which version is deployed and who may call it is the business
// of package sandbox. The command uses this room for the preflight's boot as well.
//
// Three walls are kept here whatever the caller does: Workers can't reach our own
// listeners by CONNECT, experimental compatibility flags are refused (the runtime
// never runs with --experimental), and no runtime outlives the process that started it.
package workerd
