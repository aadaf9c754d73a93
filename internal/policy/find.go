package policy

// finder finds known words in text in one pass, whatever their number: the automaton of
// Aho and Corasick, over bytes without case. What it finds is only a place to look at.
type finder struct {
	class [256]uint8 // letters of either case, and all bytes that stand in no word, share one
	width int
	next  []int32
	// hits are the words that end in a state.
	hits [][]int32
	// steps is next as the search walks it: for each state and class, where the next
	// state's row begins, negative (its complement) where words end in it.
	steps []int32
}

// newFinder builds the automaton. Words are numbered as they are given.
func newFinder(words []string) *finder {
	f := &finder{width: 1}
	for _, w := range words {
		for i := range len(w) {
			c := lower(w[i])
			if f.class[c] == 0 {
				f.class[c] = uint8(f.width)
				f.width++
			}
		}
	}
	for c := byte('A'); c <= 'Z'; c++ {
		f.class[c] = f.class[lower(c)]
	}
	f.state()
	for n, w := range words {
		at := int32(0)
		for i := range len(w) {
			step := int(at)*f.width + int(f.class[w[i]])
			if f.next[step] == 0 {
				f.next[step] = f.state()
			}
			at = f.next[step]
		}
		f.hits[at] = append(f.hits[at], int32(n))
	}
	f.link()
	f.steps = make([]int32, len(f.next))
	for i, to := range f.next {
		f.steps[i] = to * int32(f.width)
		if len(f.hits[to]) > 0 {
			f.steps[i] = ^f.steps[i]
		}
	}
	return f
}

func (f *finder) state() int32 {
	f.next = append(f.next, make([]int32, f.width)...)
	f.hits = append(f.hits, nil)
	return int32(len(f.hits) - 1)
}

// link fills in where to go on when a word breaks off: breadth first, so that the
// shorter states are done before the longer.
func (f *finder) link() {
	back := make([]int32, len(f.hits))
	var queue []int32
	for c := range f.width {
		if to := f.next[c]; to != 0 {
			queue = append(queue, to)
		}
	}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		f.hits[at] = append(f.hits[at], f.hits[back[at]]...)
		for c := range f.width {
			step := int(at)*f.width + c
			behind := f.next[int(back[at])*f.width+c]
			if to := f.next[step]; to != 0 {
				back[to] = behind
				queue = append(queue, to)
			} else {
				f.next[step] = behind
			}
		}
	}
}

// each calls see with each word and where it ends, in order.
func (f *finder) each(text []byte, see func(word, end int)) {
	row := int32(0)
	for i, c := range text {
		row = f.steps[int(row)+int(f.class[c])]
		if row >= 0 {
			continue
		}
		row = ^row
		for _, n := range f.hits[row/int32(f.width)] {
			see(int(n), i+1)
		}
	}
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
