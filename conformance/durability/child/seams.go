package main

import "github.com/lacewing-mqtt/lacewing/node"

// seams puts into o what the environment asks for.
func seams(*node.Options) error { return nil }
