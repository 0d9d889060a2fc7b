"""Speed and memory of kernels, training and encoding, side by side with peers (imported as `musae.bench`)."""
