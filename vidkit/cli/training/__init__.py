"""Commands that train and use models: pretrain, finetune, evaluate, masks, predict, extract, convert."""
