// Package figure is how temper's plots look: one style over gonum's plot, and
// SVG with a title that a screen reader reads and colours that follow the
// reader's choice of a light or a dark page.
//
// What belongs here: axes, ticks, colours, files. What is shown, and of which
// numbers, belongs to the packages that draw.
package figure
