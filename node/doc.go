// Package node builds one running Lacewing node from its configuration: the
// engine, the stored metadata, the listeners of MQTT and of HTTP, the plugins, the
// monitors, and closes them again in the opposite order. It is the one place that
// knows all of them. DESIGN.md has the reasons.
package node
