// Package packaging holds the files from which release packages are made (systemd unit, nfpm
// configuration, maintainer scripts) and the tests that prove what they contain.
package packaging
