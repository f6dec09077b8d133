"""Methods of explaining other than LRP: gradients, Grad-CAM, occlusion, and controls that ignore the network."""
