// Package effects holds a running node to what its figures and settings say: every metric and stat is moved by real
// packets and by exactly what happened, every hot key changes something that a client can see, what the APIs do reaches
// the clients, and bad input and load harm nobody but their sender.
package effects
