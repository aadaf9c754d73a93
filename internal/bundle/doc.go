// Package bundle turns a deploy.Source into a deploy.Artifact: it finds the project,
// reads its wrangler configuration, bundles the code with esbuild in this process,
// collects modules and static files and seals the result.
//
// The allowed roots are a wall. esbuild's public API opens files itself (tsconfig
// "extends", sourceMappingURL comments, globs in import()), so nothing of that is
// left to it: our own resolver and loader read every file, through an os.Root or from
// memory, and what would make esbuild look at the disk is taken out before it sees
// it. esbuild gets a working directory that no system call can name.
//
// Uploading, accounts and what an agent sees of all this are left to other rooms.
package bundle
