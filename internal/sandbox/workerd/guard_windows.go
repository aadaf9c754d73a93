package workerd

// guard does nothing: there is no sandbox on this system.
func guard(string) (dismiss func()) { return func() {} }
