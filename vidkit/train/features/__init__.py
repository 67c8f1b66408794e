"""What a frozen encoder gives for a clip: read-outs of its tokens (`readout`), in files (`extract`, `file`)."""
