// Package web is the door for humans: for now the one page on which a human decides
// whether to keep a temporary account. It opens a loopback listener when the first
// address is asked for.
//
// The page lives on http://localhost:PORT, while Workers of the sandbox are served on
// 127.0.0.1: browsers keep cookies by host and not by port, so the two must not share
// one. What it protects: GET and HEAD change nothing (chat programs and virus scanners
// fetch links), the deciding POST comes from the page itself, there is one decision, and
// Cloudflare's claim link, which owns the whole account, goes only to the browser in
// which the yes was given: in a redirect's Location, never in the HTML of a page, never
// in a log. What it can't protect: a program that runs as the same user can open the
// page as well as the human can.
package web
