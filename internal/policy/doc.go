// Package policy answers whether an act may be done, and finds secrets in what would
// become public.
//
// A policy is a file of named rules. Each has a condition in CEL over the facts of an
// act, never over a tool's raw arguments, and is compiled and type-checked when the
// policy is made: a word that names no fact is an error at its place in the file, not a
// rule that never fires. What can't be evaluated denies.
//
// The secret scan has rules of its own for the kinds whose formats their issuers
// publish, and one for values that are assigned to secret-like names. What it finds is
// a fact that rules see.
//
// Asking (once for an act, before it), recording and telling the caller are left to the
// Service in deploy; reading the file from the disk is left to the command.
package policy
